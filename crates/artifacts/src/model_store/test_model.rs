//! A manifest for tests of both stores.

use common::digest::Sha256;

use super::ModelName;
use crate::manifest::ArtifactManifest;

pub(super) fn manifest(onnx: &[u8]) -> ArtifactManifest {
    let json = serde_json::json!({
        "format_version": 2,
        "onnx": {"sha256": Sha256::of(onnx), "size": onnx.len()},
        "signature": {
            "inputs": [{"name": "input", "data_type": "FP32", "dimensions": ["batch", 1, 1, 1]}],
            "outputs": [{"name": "logits", "data_type": "FP32", "dimensions": ["batch", 1]}],
        },
        "class_names": ["a"],
        "preprocessing": {"mean": [0.0], "std": [1.0]},
        "golden_batch": {
            "data_type": "UINT8", "samples": "AA==", "logits": [[0.5]], "tolerance": 1e-4,
        },
        "network": {},
        "provenance": {
            "run": "r", "seed": 1, "config_sha256": Sha256::of(b""), "dataset": "d",
            "teacher": null, "metrics": {},
        },
    });
    ArtifactManifest::from_json(json.to_string().as_bytes()).unwrap()
}

pub(super) fn name(text: &str) -> ModelName {
    ModelName::new(text).unwrap()
}
