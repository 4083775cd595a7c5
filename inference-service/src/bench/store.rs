//! A model store with a network whose weights are random: they do not change what it costs.

use std::{collections::BTreeMap, path::Path};

use artifacts::{
    manifest::{
        ArtifactManifest, FORMAT_VERSION, GoldenBatch, OnnxFile, Preprocessing, Provenance,
    },
    model_store::{ModelName, ModelStore, StoreError},
};
use common::digest::Sha256;
use datasets::Normalization;
use networks::{NetworkSpec, SpecError, Weights, WeightsError};
use onnx_runtime::{Session, SessionError, SessionOptions};
use serde::Deserialize;

const GOLDEN_IMAGES: usize = 4;
const SEED: u64 = 1;

/// Networks that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchNetwork {
    /// A ResNet-8 of 77K parameters, configs/bench/resnet8.toml.
    Resnet8,
    /// The demo's student, configs/demo/student.toml.
    DemoStudent,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum BenchStoreError {
    /// The network is none.
    #[error(transparent)]
    Network(#[from] SpecError),
    /// The network cannot be exported.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// ONNX Runtime cannot compute the golden batch.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BenchNetwork {
    fn spec(self) -> NetworkSpec {
        #[derive(Deserialize)]
        struct HasNetwork {
            network: NetworkSpec,
        }
        let config = match self {
            Self::Resnet8 => include_str!("../../../configs/bench/resnet8.toml"),
            Self::DemoStudent => include_str!("../../../configs/demo/student.toml"),
        };
        // Holds: both files are compiled in, and a test reads them.
        let config: HasNetwork = toml::from_str(config).expect("a shipped network is valid");
        config.network
    }
}

/// Writes version 1 of `model`, active, into the store in `folder`.
///
/// # Errors
/// See [`BenchStoreError`].
pub fn write(
    folder: &Path,
    model: &ModelName,
    network: BenchNetwork,
) -> Result<(), BenchStoreError> {
    let spec = network.spec();
    let onnx = networks::onnx::export(&spec, &Weights::initial(&spec, SEED)?)?;
    let manifest = manifest(&spec, &onnx)?;
    let store = ModelStore::open(folder)?;
    let version = store.commit(model, &onnx, &manifest)?;
    Ok(store.activate(model, version)?)
}

fn manifest(spec: &NetworkSpec, onnx: &[u8]) -> Result<ArtifactManifest, BenchStoreError> {
    let [channels, height, width] = spec.input;
    let plane = height * width;
    let images: Vec<u8> = (0..GOLDEN_IMAGES * channels * plane)
        .map(|i| (i * 37 % 251) as u8)
        .collect();
    let normalization = Normalization {
        mean: vec![0.5; channels],
        std: vec![0.5; channels],
    };
    let mut input = Vec::new();
    normalization.apply(&images, plane, &mut input);
    let mut session = Session::load(onnx, SessionOptions::default())?;
    let logits = session.run(&input, GOLDEN_IMAGES)?;
    Ok(ArtifactManifest {
        format_version: FORMAT_VERSION,
        onnx: OnnxFile {
            sha256: Sha256::of(onnx),
            size: onnx.len() as u64,
        },
        input_shape: spec.input,
        class_names: (0..spec.classes).map(|class| class.to_string()).collect(),
        preprocessing: Preprocessing::normalization(normalization.mean, normalization.std),
        golden_batch: GoldenBatch {
            images,
            logits: logits.chunks(spec.classes).map(<[f32]>::to_vec).collect(),
            tolerance: 1e-3,
            relative_tolerance: 0.0,
        },
        // Holds: a spec's keys are strings and its numbers finite.
        network: serde_json::to_value(spec).unwrap_or_default(),
        provenance: Provenance {
            run: "random weights".to_owned(),
            seed: SEED,
            config_sha256: Sha256::of(b""),
            dataset: "none".to_owned(),
            teacher: None,
            bit_reproducible: None,
            metrics: BTreeMap::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use networks::cost;

    use super::*;

    #[test]
    fn the_networks_are_those_that_the_documents_speak_of() {
        for (network, parameters) in [
            (BenchNetwork::Resnet8, 77_000..79_000),
            (BenchNetwork::DemoStudent, 39_154..39_155),
        ] {
            let found = cost(&network.spec()).unwrap().parameters;
            assert!(parameters.contains(&found), "{network:?}: {found}");
        }
    }
}
