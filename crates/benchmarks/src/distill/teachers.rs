//! Teachers with random weights: they cost as much as trained teachers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use common::atomic_file;
use networks::{ModelFile, Weights};

use crate::{
    measurement::Measurement,
    process::{Program, Server},
    recipe,
    task::{Architecture, Task},
};

/// Seed of the random weights.
const SEED: u64 = 1;

/// A teacher's artifact.
pub(crate) struct Teacher {
    artifact: PathBuf,
}

impl Teacher {
    /// Writes an artifact below `folder`.
    pub(crate) fn write(
        folder: &Path,
        architecture: Architecture,
        task: Task,
    ) -> anyhow::Result<Self> {
        let artifact = folder.join(architecture.name());
        let network = task.teacher(architecture)?;
        let (normalization_mean, normalization_std) = task.normalization();
        let weights = Weights::initial(&network, SEED)?.to_safetensors()?;
        let model = ModelFile {
            format_version: ModelFile::FORMAT_VERSION,
            weights_sha256: None,
            class_names: recipe::class_names()?,
            normalization_mean,
            normalization_std,
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
        self.service()?.serve().await
    }

    /// The program that [`serve`](Self::serve) starts.
    pub(crate) fn service(&self) -> anyhow::Result<Program> {
        Ok(Program::service("teacher-service")?
            .args(["serve", "--model"])
            .arg(&self.artifact)
            .args(["--set", "compute.threads=1"])
            .args(["--set", "grpc.listen=127.0.0.1:0"])
            .args(["--set", "metrics.listen=127.0.0.1:0"]))
    }

    /// Measures the forward pass alone, in its own process, on one thread.
    pub(super) async fn forward(&self, samples: usize) -> anyhow::Result<Measurement> {
        self.forward_program(samples, 1)?.figures().await
    }

    /// The program that measures the forward pass of at least `samples` samples.
    pub(crate) fn forward_program(
        &self,
        samples: usize,
        threads: usize,
    ) -> anyhow::Result<Program> {
        Ok(Program::part("forward")?
            .arg("--artifact")
            .arg(&self.artifact)
            .args(["--samples", &samples.to_string()])
            .args(["--threads", &threads.to_string()]))
    }
}
