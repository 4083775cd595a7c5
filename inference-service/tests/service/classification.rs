//! Classification of images, compared with inference on their pixels.

use std::io::Cursor;

use datasets::{Normalization, Split};
use image::{GrayImage, ImageFormat};
use networks::{NetworkSpec, Weights};
use proto::{
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    predict::v1::{ClassifyRequest, predictor_service_client::PredictorServiceClient},
};

use crate::support::{Artifact, Connection, MODEL, Service, ServiceOptions, repository};

const IMAGES: usize = 8;
const NORMALIZATION: (f32, f32) = (0.286, 0.353);

/// A network for images of 28×28 pixels, the size of Fashion-MNIST.
fn artifact(images: &[u8]) -> Artifact {
    let network = "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [4, 8]";
    let spec = NetworkSpec::from_toml(network).expect("the spec is valid");
    let weights = Weights::initial(&spec, 1).expect("the spec is valid");
    let onnx = networks::onnx::export(&spec, &weights).expect("the weights fit");
    let names: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
    Artifact::of(onnx, [1, 28, 28], &names, NORMALIZATION, images)
}

#[tokio::test]
async fn the_logits_of_a_png_are_bit_identical_to_those_of_its_pixels() {
    let names: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let folder = repository().join(".deps/fashion-mnist");
    let dataset = datasets::load_idx(&folder, Split::Test, &names).expect("scripts/setup was run");
    let pixels = |index: usize| dataset.image(index).to_vec();
    let service = Service::start(&ServiceOptions::default());
    let published = service.publish(artifact(&pixels(0)).upload()).await;
    published.expect("the model is published");
    let mut inference = service.inference().await;
    let mut predictor = PredictorServiceClient::new(service.channel("grpc").await);
    let mut http = Connection::to(&service.address("http"));
    for index in 0..IMAGES {
        let (mean, std) = NORMALIZATION;
        let normalization = Normalization {
            mean: vec![mean],
            std: vec![std],
        };
        let mut input = Vec::new();
        normalization.apply(&pixels(index), 28 * 28, &mut input);
        let bytes: Vec<u8> = input.iter().flat_map(|value| value.to_le_bytes()).collect();
        let request = ModelInferRequest {
            model_name: MODEL.to_owned(),
            inputs: vec![InferInputTensor {
                name: "input".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1, 1, 28, 28],
                ..InferInputTensor::default()
            }],
            raw_input_contents: vec![bytes.into()],
            ..ModelInferRequest::default()
        };
        let response = inference
            .model_infer(request)
            .await
            .expect("it answers")
            .into_inner();
        let (logits, _) = response.raw_output_contents[0].as_chunks();
        let expected: Vec<u32> = logits
            .iter()
            .map(|value| u32::from_le_bytes(*value))
            .collect();

        let image = GrayImage::from_raw(28, 28, pixels(index)).expect("28 times 28 pixels");
        let mut png = Cursor::new(Vec::new());
        image
            .write_to(&mut png, ImageFormat::Png)
            .expect("memory is written");
        let png = png.into_inner();
        let request = ClassifyRequest {
            model_name: MODEL.to_owned(),
            images: vec![png.clone().into()],
            top_k: 10,
            ..ClassifyRequest::default()
        };
        let answer = predictor
            .classify(request)
            .await
            .expect("it answers")
            .into_inner();
        let classes = &answer.classifications[0].classes;
        let mut found = vec![0; 10];
        for class in classes {
            assert_eq!(class.class_name, format!("class {}", class.index));
            found[class.index as usize] = class.logit.to_bits();
        }
        assert_eq!(found, expected, "image {index}");
        assert!(
            classes
                .windows(2)
                .all(|pair| pair[0].probability >= pair[1].probability)
        );

        let line = "POST /v1/models/digits:classify?top_k=1";
        let answer = http.call(line, &[("content-type", "image/png")], &png);
        assert_eq!(answer.status, 200);
        let json = answer.json();
        assert_eq!(json["classes"][0]["index"], classes[0].index);
        assert_eq!(json["classes"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["model_version"], "1");
    }
}
