//! A model store with a network whose weights are random.

use std::{collections::BTreeMap, path::PathBuf};

use artifacts::{
    manifest::{
        ArtifactManifest, FORMAT_VERSION, GoldenBatch, OnnxFile, Preprocessing, Provenance,
    },
    model_store::{FolderStore, ModelName, ModelStore},
};
use clap::Args;
use common::digest::Sha256;
use datasets::Normalization;
use networks::{NetworkSpec, Weights};
use onnx_runtime::{Session, SessionOptions};
use tensors::DataType;

use crate::network::Network;

const GOLDEN_IMAGES: usize = 4;
const SEED: u64 = 1;

/// Write a model store that holds a network with random weights.
#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// The network.
    #[arg(long, value_enum)]
    network: Network,
    /// Name of the model in the store.
    #[arg(long)]
    model: ModelName,
    /// Folder of the store.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Writes version 1 of the model and makes it the active version.
pub(super) fn write(arguments: &StoreArguments) -> anyhow::Result<()> {
    let spec = arguments.network.spec();
    let onnx = networks::onnx::export(&spec, &Weights::initial(&spec, SEED)?)?;
    let manifest = manifest(&spec, &onnx)?;
    let store = FolderStore::open(&arguments.output)?;
    let version = store.commit(&arguments.model, &onnx, &manifest)?;
    Ok(store.activate(&arguments.model, version)?)
}

fn manifest(spec: &NetworkSpec, onnx: &[u8]) -> anyhow::Result<ArtifactManifest> {
    let [channels, height, width] = spec.input.image()?;
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
        signature: session.interface().signature(),
        class_names: (0..spec.classes).map(|class| class.to_string()).collect(),
        preprocessing: Some(Preprocessing::normalization(
            normalization.mean,
            normalization.std,
        )),
        golden_batch: GoldenBatch {
            data_type: DataType::Uint8,
            samples: images,
            logits: logits.chunks(spec.classes).map(<[f32]>::to_vec).collect(),
            tolerance: 1e-3,
            relative_tolerance: 0.0,
        },
        network: serde_json::to_value(spec)?,
        provenance: Provenance {
            run: "random weights".to_owned(),
            seed: SEED,
            config_sha256: Sha256::of(b""),
            dataset: "none".to_owned(),
            teacher: None,
            teachers: BTreeMap::new(),
            bit_reproducible: None,
            metrics: BTreeMap::new(),
        },
    })
}
