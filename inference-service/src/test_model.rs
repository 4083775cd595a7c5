//! Models for unit tests.

use std::sync::Arc;

use artifacts::{manifest::ArtifactManifest, model_store::ModelName};
use bytes::Bytes;
use common::digest::Sha256;
use networks::{NetworkSpec, Weights};
use onnx_runtime::ModelInterface;

use crate::{
    catalog::Catalog,
    config::{InferenceConfig, ModelConfig},
    loaded_version::{LoadedVersion, Prepared},
};

/// A model of one pixel and two classes, and a manifest with `logits` for three images.
pub(crate) fn model(logits: &[[f32; 2]]) -> (Bytes, Arc<ArtifactManifest>) {
    let network = "input = [1, 1, 1]\nclasses = 2\npreset = \"mlp\"\nwidths = [4]";
    let spec = NetworkSpec::from_toml(network).unwrap();
    let onnx = networks::onnx::export(&spec, &Weights::initial(&spec, 1).unwrap()).unwrap();
    let json = serde_json::json!({
        "format_version": 2,
        "onnx": {"sha256": Sha256::of(&onnx), "size": onnx.len()},
        "signature": interface().signature(),
        "class_names": ["dark", "light"],
        "preprocessing": {"mean": [0.0], "std": [1.0]},
        "golden_batch": {
            "data_type": "UINT8", "samples": "AED/", "logits": logits, "tolerance": 1e-4,
        },
        "network": {},
        "provenance": {
            "run": "r", "seed": 1, "config_sha256": Sha256::of(b""), "dataset": "d",
            "teacher": null, "metrics": {},
        },
    });
    let manifest = ArtifactManifest::from_json(json.to_string().as_bytes()).unwrap();
    (onnx.into(), Arc::new(manifest))
}

fn interface() -> ModelInterface {
    ModelInterface {
        sample: vec![1, 1, 1],
        classes: 2,
    }
}

/// A version without sessions, so that requests stay in its queue.
pub(crate) fn without_sessions(
    catalog: &Catalog,
    model: &ModelName,
    version: u64,
) -> Arc<LoadedVersion> {
    let config = InferenceConfig::shipped().model(model.as_str());
    without_sessions_configured(catalog, model, version, config)
}

/// A version without sessions, with the given configuration.
pub(crate) fn without_sessions_configured(
    catalog: &Catalog,
    name: &ModelName,
    version: u64,
    config: ModelConfig,
) -> Arc<LoadedVersion> {
    let (_, manifest) = model(&[[0.0; 2]; 3]);
    let prepared = Prepared {
        interface: interface(),
        manifest,
        config: Arc::new(config),
        sessions: Vec::new(),
        memory_bytes: 7,
    };
    let statistics = catalog.statistics(name, version);
    LoadedVersion::start(name, version, prepared, statistics, catalog.change_sender()).unwrap()
}
