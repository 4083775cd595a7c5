//! Small models for tests.

use artifacts::manifest::ArtifactManifest;
use common::digest::Sha256;
use datasets::Normalization;
use networks::{NetworkSpec, Weights};
use onnx_runtime::{Session, SessionOptions};
use proto::{
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    publish::v1::{PublishHeader, PublishRequest, publish_request::Part},
};

pub const MODEL: &str = "digits";
pub const INPUT_SHAPE: [usize; 3] = [1, 8, 8];
pub const CLASSES: usize = 3;
const SAMPLE: usize = 64;
const GOLDEN_IMAGES: usize = 5;

/// A model and its manifest.
#[derive(Clone)]
pub struct Artifact {
    pub onnx: Vec<u8>,
    pub manifest: serde_json::Value,
}

impl Artifact {
    /// A small network; every seed gives different weights.
    pub fn new(seed: u64) -> Self {
        let spec = spec("preset = \"cnn\"\nwidths = [4, 8]");
        let weights = Weights::initial(&spec, seed).expect("the spec is valid");
        Self::small(&spec, &weights)
    }

    /// A network whose logits are [n, 2n, -n] for every input.
    pub fn constant(n: u64) -> Self {
        Self::with_logits(Self::constant_logits(n))
    }

    /// A network that gives `logits` for every input.
    pub fn with_logits(logits: [f32; CLASSES]) -> Self {
        let spec = spec("preset = \"mlp\"\nwidths = [4]");
        let weights = Weights::initial(&spec, 1).expect("the spec is valid");
        let tensors = weights.iter().map(|(name, tensor)| {
            let mut tensor = tensor.clone();
            match tensor.shape.as_slice() {
                [CLASSES] => tensor.data = logits.to_vec(),
                [CLASSES, _] => tensor.data.fill(0.0),
                _ => {}
            }
            (name.to_owned(), tensor)
        });
        let weights = Weights::from_tensors(tensors, &spec).expect("the weights fit");
        Self::small(&spec, &weights)
    }

    /// The logits of [`constant`](Self::constant).
    pub fn constant_logits(n: u64) -> [f32; CLASSES] {
        let n = n as f32;
        [n, 2.0 * n, -n]
    }

    fn small(spec: &NetworkSpec, weights: &Weights) -> Self {
        let onnx = networks::onnx::export(spec, weights).expect("the weights fit");
        let names = ["zero", "one", "two"].map(str::to_owned);
        Self::of(
            onnx,
            INPUT_SHAPE,
            &names,
            (0.25, 0.5),
            &images(GOLDEN_IMAGES),
        )
    }

    /// `onnx` with a manifest; its golden batch has the logits of `images`.
    pub fn of(
        onnx: Vec<u8>,
        input_shape: [usize; 3],
        class_names: &[String],
        (mean, std): (f32, f32),
        images: &[u8],
    ) -> Self {
        let mut input = Vec::new();
        let normalization = Normalization {
            mean: vec![mean],
            std: vec![std],
        };
        normalization.apply(images, input_shape.iter().product(), &mut input);
        let mut artifact = Self::of_rows(onnx, class_names, &input);
        artifact.manifest["preprocessing"] = serde_json::json!({"mean": [mean], "std": [std]});
        artifact.manifest["golden_batch"]["data_type"] = "UINT8".into();
        artifact.manifest["golden_batch"]["samples"] = base64(images).into();
        artifact
    }

    /// `onnx` with a manifest for a model of rows; its golden batch has the logits of `input`.
    pub fn of_rows(onnx: Vec<u8>, class_names: &[String], input: &[f32]) -> Self {
        let mut session = Session::load(&onnx, SessionOptions::default()).expect("it loads");
        let samples = input.len() / session.interface().sample_values();
        let logits = session.run(input, samples).expect("it runs");
        let bytes: Vec<u8> = input.iter().flat_map(|value| value.to_le_bytes()).collect();
        let manifest = serde_json::json!({
            "format_version": 2,
            "onnx": {"sha256": Sha256::of(&onnx), "size": onnx.len()},
            "signature": session.interface().signature(),
            "class_names": class_names,
            "golden_batch": {
                "data_type": "FP32",
                "samples": base64(&bytes),
                "logits": logits.chunks(class_names.len()).collect::<Vec<_>>(),
                "tolerance": 1e-4,
            },
            "network": {"preset": "cnn"},
            "provenance": {
                "run": "test", "seed": 1, "config_sha256": Sha256::of(b""), "dataset": "none",
                "teacher": null, "metrics": {},
            },
        });
        Self { onnx, manifest }
    }

    /// The manifest as the store has it.
    pub fn parsed(&self) -> ArtifactManifest {
        ArtifactManifest::from_json(self.manifest.to_string().as_bytes()).expect("it is valid")
    }

    pub fn header(&self) -> PublishHeader {
        PublishHeader {
            model_name: MODEL.to_owned(),
            sha256: Sha256::of(&self.onnx).to_string(),
            size: self.onnx.len() as u64,
            manifest_json: self.manifest.to_string().into(),
            ..PublishHeader::default()
        }
    }

    /// The messages of an upload: a header and two chunks.
    pub fn upload(&self) -> Vec<PublishRequest> {
        upload(self.header(), &self.onnx)
    }

    /// Computes the logits of `input` in this process.
    pub fn logits(&self, input: &[f32]) -> Vec<f32> {
        run(&self.onnx, input)
    }
}

fn spec(layers: &str) -> NetworkSpec {
    let head = "input = [1, 8, 8]\nclasses = 3\n";
    NetworkSpec::from_toml(&format!("{head}{layers}")).expect("the spec is valid")
}

/// A header and two chunks.
pub fn upload(header: PublishHeader, onnx: &[u8]) -> Vec<PublishRequest> {
    let (first, second) = onnx.split_at(onnx.len() / 2);
    let chunk = |bytes: &[u8]| Part::Chunk(bytes.to_vec().into());
    let parts = [Part::Header(header), chunk(first), chunk(second)];
    let requests = parts
        .into_iter()
        .map(|part| PublishRequest { part: Some(part) });
    requests.collect()
}

/// Different u8 images.
pub fn images(count: usize) -> Vec<u8> {
    (0..count * SAMPLE)
        .map(|i| (i * 7 + i / SAMPLE * 31) as u8)
        .collect()
}

/// The values of u8 pixels of one channel for a model that normalizes with `mean` and `std`.
pub fn normalized(pixels: &[u8], (mean, std): (f32, f32)) -> Vec<f32> {
    let values = pixels.iter().map(|pixel| f32::from(*pixel) / 255.0);
    values.map(|value| (value - mean) / std).collect()
}

/// A request for `samples` samples, and its input values.
pub fn infer_request(samples: usize) -> (ModelInferRequest, Vec<f32>) {
    let values: Vec<f32> = images(samples)
        .iter()
        .map(|pixel| f32::from(*pixel) / 255.0)
        .collect();
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let [channels, height, width] = INPUT_SHAPE;
    let request = ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![InferInputTensor {
            name: "input".to_owned(),
            datatype: "FP32".to_owned(),
            shape: [samples, channels, height, width]
                .map(|size| size as i64)
                .to_vec(),
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![bytes.into()],
        ..ModelInferRequest::default()
    };
    (request, values)
}

fn run(onnx: &[u8], input: &[f32]) -> Vec<f32> {
    let mut session = Session::load(onnx, SessionOptions::default()).expect("the model loads");
    let samples = input.len() / session.interface().sample_values();
    session.run(input, samples).expect("the model runs")
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

/// Asserts that `bytes`, little-endian f32, are `expected`.
#[track_caller]
pub fn assert_close(bytes: &[u8], expected: &[f32]) {
    let (values, _) = bytes.as_chunks();
    let values: Vec<f32> = values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect();
    assert_eq!(values.len(), expected.len());
    let close = values
        .iter()
        .zip(expected)
        .all(|(a, b)| (a - b).abs() <= 1e-5);
    assert!(close, "{values:?} {expected:?}");
}
