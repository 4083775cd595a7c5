//! Class names and preprocessing in the metadata of a model.

use networks::{NetworkSpec, Weights};
use proto::inference::{ModelConfig, ModelConfigRequest};
use serde_json::{Value, json};
use tonic::Status;

use crate::support::{Artifact, Connection, MODEL, Service, ServiceOptions, publish};

/// The classes of ImageNet-21K.
const MANY: usize = 21_841;

/// A small network with these classes.
fn artifact(class_names: &[String]) -> Artifact {
    let classes = class_names.len();
    let network = format!("input = [1, 8, 8]\nclasses = {classes}\npreset = \"mlp\"\nwidths = [2]");
    let spec = NetworkSpec::from_toml(&network).expect("the spec is valid");
    let weights = Weights::initial(&spec, 1).expect("the spec is valid");
    let onnx = networks::onnx::export(&spec, &weights).expect("the weights fit");
    Artifact::of(onnx, [1, 8, 8], class_names, (0.25, 0.5), &[7; 64])
}

/// Reads the model's configuration with a client of tonic's default limits.
async fn config(service: &Service) -> Result<ModelConfig, Status> {
    let request = ModelConfigRequest {
        name: MODEL.to_owned(),
        version: String::new(),
    };
    let response = service.inference().await.model_config(request).await?;
    Ok(response.into_inner().config.expect("a configuration"))
}

/// The value of a parameter, if there is one.
fn parameter(config: &ModelConfig, name: &str) -> Option<Value> {
    let parameter = config.parameters.get(name)?;
    Some(serde_json::from_str(&parameter.string_value).expect("it is JSON"))
}

/// The JSON of a path of the HTTP port.
fn get(service: &Service, path: &str) -> Value {
    let response = Connection::to(&service.address("http")).call(&format!("GET {path}"), &[], b"");
    assert_eq!(response.status, 200, "{path}");
    serde_json::from_slice(&response.body).expect("it is JSON")
}

#[tokio::test]
async fn clients_read_class_names_and_preprocessing_of_every_version() {
    let service = Service::start(&ServiceOptions {
        set: &["version_policy={ all = {} }"],
        ..ServiceOptions::default()
    });
    let names = ["\"cat\"", "häst"].map(str::to_owned);
    let mut second = artifact(&["dog".to_owned()]);
    second.manifest["preprocessing"]["resize"] = json!({"shorter_side": 8});
    for artifact in [artifact(&names), second] {
        publish(&service, &artifact).await;
    }
    let preprocessing = |resize: Value| {
        json!({
            "mean": [0.25], "std": [0.5], "grayscale": false, "resize": resize,
        })
    };
    let active = config(&service).await.unwrap();
    assert_eq!(parameter(&active, "class_names"), Some(json!(["dog"])));
    let expected = preprocessing(json!({"shorter_side": 8}));
    assert_eq!(parameter(&active, "preprocessing"), Some(expected));
    let metadata = get(&service, "/v2/models/digits/versions/1");
    let expected = json!({"class_names": names, "preprocessing": preprocessing(json!("cover"))});
    assert_eq!(metadata["parameters"], expected);
    let config = get(&service, "/v2/models/digits/versions/1/config");
    let text = config["parameters"]["class_names"]["string_value"].as_str();
    assert_eq!(text, Some(json!(names).to_string().as_str()));
}

#[tokio::test]
async fn the_names_of_21_841_classes_fit_and_longer_lists_are_left_out() {
    let service = Service::start(&ServiceOptions::default());
    let names = |length: usize| -> Vec<String> {
        let names = (0..MANY).map(|class| format!("class {class:0>length$}"));
        names.collect()
    };
    let fitting = names(80);
    let published = service.publish(artifact(&fitting).upload()).await;
    published.expect("it is published");
    let found = config(&service).await.expect("it fits into a message");
    assert_eq!(parameter(&found, "class_names"), Some(json!(fitting)));
    let metadata = get(&service, "/v2/models/digits");
    assert_eq!(metadata["parameters"]["class_names"], json!(fitting));

    let published = service.publish(artifact(&names(200)).upload()).await;
    published.expect("it is published");
    let found = config(&service).await.expect("it fits into a message");
    let metadata = get(&service, "/v2/models/digits");
    assert_eq!(parameter(&found, "class_names"), None);
    assert_eq!(metadata["parameters"].get("class_names"), None);
    for preprocessing in [
        parameter(&found, "preprocessing").expect("it is there"),
        metadata["parameters"]["preprocessing"].clone(),
    ] {
        assert_eq!(preprocessing["mean"], json!([0.25]));
    }
}

#[tokio::test]
async fn class_names_take_at_most_half_of_a_message() {
    let service = Service::start(&ServiceOptions {
        set: &["grpc.max_message_bytes=4096"],
        ..ServiceOptions::default()
    });
    let names: Vec<String> = (0..100)
        .map(|class| format!("class {class:0>30}"))
        .collect();
    let published = service.publish(artifact(&names).upload()).await;
    published.expect("it is published");
    let found = config(&service).await.expect("it fits into a message");
    assert_eq!(parameter(&found, "class_names"), None);
    let metadata = get(&service, "/v2/models/digits");
    assert_eq!(metadata["parameters"]["class_names"], json!(names));
}
