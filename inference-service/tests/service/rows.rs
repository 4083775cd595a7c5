//! Models whose samples are rows of numbers.

use networks::{
    NetworkSpec, Weights,
    onnx::{Standardization, export_standardized},
};
use proto::{
    inference::{
        InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest,
        model_infer_request::InferInputTensor, model_input::Format,
    },
    predict::v1::{ClassifyRequest, predictor_service_client::PredictorServiceClient},
};
use serde_json::json;
use tonic::Code;

use crate::support::{Artifact, Connection, MODEL, Service, ServiceOptions, assert_close};

/// Values of a row.
const VALUES: usize = 3;
const CLASSES: [&str; 2] = ["benign", "malignant"];
const INFER: &str = "POST /v2/models/digits/infer";

/// A network that standardizes its rows.
pub fn artifact() -> Artifact {
    let spec = "input = [3]\nclasses = 2\npreset = \"mlp\"\nwidths = [8]";
    let spec = NetworkSpec::from_toml(spec).expect("the spec is valid");
    let weights = Weights::initial(&spec, 1).expect("the spec is valid");
    let standardization = Standardization {
        mean: &[100.0, 0.0, -3.0],
        std: &[25.0, 1.0, 0.125],
    };
    let onnx = export_standardized(&spec, &weights, standardization).expect("the weights fit");
    Artifact::of_rows(onnx, &CLASSES.map(str::to_owned), &rows(5))
}

/// Different rows around the means.
fn rows(count: usize) -> Vec<f32> {
    let row = |n: usize| [80.0 + 7.0 * n as f32, 0.5 - n as f32, -3.0 + 0.1 * n as f32];
    (0..count).flat_map(row).collect()
}

fn bytes(rows: &[f32]) -> Vec<u8> {
    rows.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn request(rows: &[f32]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![InferInputTensor {
            name: "input".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![(rows.len() / VALUES) as i64, VALUES as i64],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![bytes(rows).into()],
        ..ModelInferRequest::default()
    }
}

async fn serving(artifact: &Artifact, set: &[&str]) -> Service {
    let service = Service::start(&ServiceOptions {
        set,
        ..ServiceOptions::default()
    });
    let published = service.publish(artifact.upload()).await;
    published.expect("the model is published");
    service
}

#[tokio::test]
async fn rows_are_answered_over_grpc_and_http() {
    let artifact = artifact();
    let service = serving(&artifact, &[]).await;
    let mut http = Connection::to(&service.address("http"));
    for samples in [1, 7] {
        let rows = rows(samples);
        let expected = artifact.logits(&rows);
        let answer = service.infer(request(&rows)).await.expect("it answers");
        assert_eq!(answer.outputs[0].shape, [samples as i64, 2]);
        assert_close(&answer.raw_output_contents[0], &expected);

        let mut typed = request(&rows);
        typed.raw_input_contents.clear();
        typed.inputs[0].contents = Some(InferTensorContents {
            fp32_contents: rows.clone(),
            ..InferTensorContents::default()
        });
        let answer = service.infer(typed).await.expect("it answers");
        assert_close(&answer.raw_output_contents[0], &expected);

        let body = json!({"inputs": [
            {"name": "input", "datatype": "FP32", "shape": [samples, VALUES], "data": rows},
        ]});
        let answer = http.call(INFER, &[], body.to_string().as_bytes());
        assert_eq!(answer.status, 200);
        let logits = answer.json()["outputs"][0]["data"].clone();
        let logits: Vec<f32> = serde_json::from_value(logits).expect("they are numbers");
        assert_close(&bytes(&logits), &expected);

        let header = json!({
            "inputs": [{
                "name": "input", "datatype": "FP32", "shape": [samples, VALUES],
                "parameters": {"binary_data_size": 4 * rows.len()},
            }],
            "parameters": {"binary_data_output": true},
        });
        let header = header.to_string().into_bytes();
        let length = header.len().to_string();
        let headers = [("inference-header-content-length", length.as_str())];
        let answer = http.call(INFER, &headers, &[header, bytes(&rows)].concat());
        assert_eq!(answer.status, 200);
        let logits = &answer.body[answer.body.len() - 4 * expected.len()..];
        assert_close(logits, &expected);
    }
}

#[tokio::test]
async fn metadata_and_configuration_describe_rows() {
    let service = serving(&artifact(), &[]).await;
    let mut client = service.inference().await;
    let name = MODEL.to_owned();
    let version = String::new();
    let metadata = client.model_metadata(ModelMetadataRequest { name, version });
    let metadata = metadata.await.expect("it answers").into_inner();
    let tensors = [&metadata.inputs[0], &metadata.outputs[0]];
    let found = tensors.map(|it| (it.name.as_str(), it.datatype.as_str(), &it.shape[..]));
    let expected = [
        ("input", "FP32", &[-1, 3][..]),
        ("logits", "FP32", &[-1, 2]),
    ];
    assert_eq!(found, expected);

    let name = MODEL.to_owned();
    let version = String::new();
    let config = client.model_config(ModelConfigRequest { name, version });
    let config = config.await.expect("it answers").into_inner().config;
    let config = config.expect("a configuration");
    assert_eq!(config.input[0].dims, [3]);
    assert_eq!(config.input[0].format(), Format::None);
    assert_eq!(config.output[0].dims, [2]);
    assert!(!config.parameters.contains_key("preprocessing"));

    let mut http = Connection::to(&service.address("http"));
    let found = http.call("GET /v2/models/digits", &[], b"").json();
    assert_eq!(found["inputs"][0]["shape"], json!([-1, 3]));
    assert_eq!(found["parameters"], json!({"class_names": CLASSES}));
    let found = http.call("GET /v2/models/digits/config", &[], b"").json();
    assert_eq!(found["input"][0]["dims"], json!([3]));
    assert_eq!(found["input"][0]["format"], "FORMAT_NONE");
}

/// Repeats the calls if the machine was too slow for one batch.
#[tokio::test]
async fn concurrent_rows_share_a_batch() {
    const CALLERS: usize = 4;
    const ATTEMPTS: usize = 20;
    let artifact = artifact();
    let settings = [
        "batching.max_batch_size=4",
        "batching.max_queue_delay_microseconds=1000000",
        "runtime.instances=1",
    ];
    let service = serving(&artifact, &settings).await;
    let client = service.inference().await;
    let rows = rows(CALLERS);
    for _ in 0..ATTEMPTS {
        let before = executions(&service).await;
        let calls = rows.chunks(VALUES).map(|row| {
            let mut client = client.clone();
            let (request, expected) = (request(row), artifact.logits(row));
            tokio::spawn(async move {
                let answer = client.model_infer(request).await.expect("it answers");
                assert_close(&answer.get_ref().raw_output_contents[0], &expected);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("the answers are right");
        }
        if executions(&service).await == before + 1 {
            return;
        }
    }
    panic!("no {CALLERS} calls were computed as one batch in {ATTEMPTS} attempts");
}

async fn executions(service: &Service) -> u64 {
    service.statistics().await[0].execution_count
}

#[tokio::test]
async fn other_shapes_and_images_are_refused_by_name() {
    let service = serving(&artifact(), &[]).await;
    for (shape, values) in [(vec![1, 4], 4), (vec![3], 3), (vec![1, 1, 1, 3], 3)] {
        let mut wrong = request(&vec![0.5; values]);
        wrong.inputs[0].shape = shape;
        let error = service.infer(wrong).await.expect_err("it is refused");
        assert_eq!(error.code(), Code::InvalidArgument);
        let expected = "expected [batch, 3] with a batch of 1 to 64";
        assert!(error.message().contains(expected), "{error}");
    }

    let expected = "the model takes no images but rows of numbers, `input` FP32 [batch, 3]";
    let picture = b"\x89PNG\r\n\x1a\n";
    let mut http = Connection::to(&service.address("http"));
    let answer = http.call("POST /v1/models/digits:classify", &[], picture);
    assert_eq!(answer.status, 400);
    let (message, reason) = answer.refusal();
    assert!(message.contains(expected), "{message}");
    assert_eq!(reason, "INVALID_REQUEST");
    let mut predictor = PredictorServiceClient::new(service.channel("grpc").await);
    let request = ClassifyRequest {
        model_name: MODEL.to_owned(),
        images: vec![picture.to_vec().into()],
        ..ClassifyRequest::default()
    };
    let error = predictor.classify(request).await.expect_err("refused");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains(expected), "{error}");
    // A picture is no request for inference either.
    let answer = http.call(INFER, &[("content-type", "image/png")], picture);
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn the_golden_batch_of_rows_is_verified() {
    let service = Service::start(&ServiceOptions::default());
    let mut wrong = artifact();
    let logit = &mut wrong.manifest["golden_batch"]["logits"][3][1];
    *logit = (logit.as_f64().expect("a number") + 0.01).into();
    let error = service.publish(wrong.upload()).await.expect_err("refused");
    assert!(error.message().contains("sample 3, class 1"), "{error}");
}
