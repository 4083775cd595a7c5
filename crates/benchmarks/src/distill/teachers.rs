//! Teachers with random weights: they cost as much as trained teachers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Error};
use common::atomic_file;
use networks::{ModelFile, NetworkSpec, Weights};

use super::recipe;
use crate::{
    measurement::Measurement,
    process::{Program, Server},
};

/// 784 pixels to 10 logits.
const ONE_LINEAR_LAYER: &str = "\
input = [1, 28, 28]
classes = 10
layers = [{ type = \"flatten\" }, { type = \"linear\", features = 10 }]
";
/// Seed of the random weights.
const SEED: u64 = 1;

/// The network of a teacher.
#[derive(Debug, Clone, Copy)]
pub(super) enum Architecture {
    /// 7,850 parameters, with negligible cost.
    OneLinearLayer,
    /// The demo's ResNet-14.
    Demo,
}

/// A teacher's artifact.
pub(super) struct Teacher {
    artifact: PathBuf,
}

impl Teacher {
    /// Writes an artifact below `folder`.
    pub(super) fn write(folder: &Path, architecture: Architecture) -> anyhow::Result<Self> {
        let artifact = folder.join(architecture.name());
        let network = architecture.network()?;
        let weights = Weights::initial(&network, SEED)?.to_safetensors()?;
        let model = ModelFile {
            format_version: ModelFile::FORMAT_VERSION,
            weights_sha256: None,
            class_names: recipe::class_names()?,
            normalization_mean: vec![0.2860],
            normalization_std: vec![0.3530],
            network,
        };
        let model = model.with_weights(&weights).to_toml()?;
        fs::create_dir_all(&artifact).with_context(|| artifact.display().to_string())?;
        let files: [(&str, &[u8]); 2] = [
            ("weights.safetensors", &weights),
            ("model.toml", model.as_bytes()),
        ];
        for (name, content) in files {
            let file = artifact.join(name);
            atomic_file::write(&file, content).with_context(|| file.display().to_string())?;
        }
        Ok(Self { artifact })
    }

    /// Starts a service on one thread, like the demo's teachers.
    pub(super) async fn serve(&self) -> anyhow::Result<Server> {
        let program = Program::service("teacher-service")?
            .args(["serve", "--model"])
            .arg(&self.artifact)
            .args(["--set", "compute.threads=1"])
            .args(["--set", "grpc.listen=127.0.0.1:0"])
            .args(["--set", "metrics.listen=127.0.0.1:0"]);
        program.serve().await
    }

    /// Measures the forward pass alone, in its own process, on one thread.
    pub(super) async fn forward(&self, samples: usize) -> anyhow::Result<Measurement> {
        let program = Program::part("forward")?
            .arg("--artifact")
            .arg(&self.artifact)
            .args(["--samples", &samples.to_string()]);
        program.figures().await
    }
}

impl Architecture {
    fn name(self) -> &'static str {
        match self {
            Self::OneLinearLayer => "one-linear-layer",
            Self::Demo => "demo-teacher",
        }
    }

    fn network(self) -> anyhow::Result<NetworkSpec> {
        match self {
            Self::OneLinearLayer => NetworkSpec::from_toml(ONE_LINEAR_LAYER).map_err(Error::msg),
            Self::Demo => recipe::teacher_network(),
        }
    }
}
