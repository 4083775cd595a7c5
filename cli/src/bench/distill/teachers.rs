//! Teachers with random weights: they cost as much as trained teachers.

use std::{fs, path::Path, path::PathBuf};

use common::{atomic_file, turn::Turn};
use networks::{ModelFile, NetworkSpec, Weights};

use crate::{
    CliError,
    bench::{
        BenchError,
        process::{Program, Server},
    },
    demo::{TEACHER_RECIPE, class_names},
    text_path::text_path,
};

const PROGRAM: &str = "teacher-service";
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
    pub(super) fn write(folder: &Path, architecture: Architecture) -> Result<Self, CliError> {
        let artifact = folder.join(architecture.name());
        let network = architecture.network().map_err(|problem| {
            // An error here is a bug in the shipped recipe.
            BenchError::Output {
                program: "the demo's recipe".to_owned(),
                problem,
            }
        })?;
        let weights = Weights::initial(&network, SEED);
        let files = weights
            .map_err(|error| error.to_string())
            .and_then(|weights| {
                let weights = weights
                    .to_safetensors()
                    .map_err(|error| error.to_string())?;
                let model = ModelFile {
                    format_version: ModelFile::FORMAT_VERSION,
                    weights_sha256: None,
                    class_names: class_names(),
                    normalization_mean: vec![0.2860],
                    normalization_std: vec![0.3530],
                    network,
                };
                let model = model
                    .with_weights(&weights)
                    .to_toml()
                    .map_err(|error| error.to_string())?;
                Ok([
                    ("weights.safetensors", weights),
                    ("model.toml", model.into()),
                ])
            });
        let files = files.map_err(|problem| BenchError::Output {
            program: architecture.name().to_owned(),
            problem,
        })?;
        fs::create_dir_all(&artifact).map_err(CliError::file(&artifact))?;
        for (name, content) in files {
            let path = artifact.join(name);
            atomic_file::write(&path, &content).map_err(CliError::file(&path))?;
        }
        Ok(Self { artifact })
    }

    /// Starts a service on one thread, like the demo's teachers.
    pub(super) async fn serve(&self) -> Result<Server, BenchError> {
        let artifact = text_path(&self.artifact)?;
        let arguments = [
            "serve",
            "--artifact",
            artifact,
            "--set",
            "compute.threads=1",
            "--set",
            "grpc.listen=127.0.0.1:0",
            "--set",
            "metrics.listen=127.0.0.1:0",
        ];
        Program::new(PROGRAM, &arguments).serve().await
    }

    /// Measures the forward pass alone, in its own process, on one thread.
    pub(super) async fn forward(&self, samples: usize) -> Result<Turn, BenchError> {
        let artifact = text_path(&self.artifact)?;
        let samples = samples.to_string();
        let arguments = [
            "bench",
            "forward",
            "--artifact",
            artifact,
            "--samples",
            &samples,
        ];
        Program::new(PROGRAM, &arguments).figures().await
    }
}

impl Architecture {
    fn name(self) -> &'static str {
        match self {
            Self::OneLinearLayer => "one-linear-layer",
            Self::Demo => "demo-teacher",
        }
    }

    fn network(self) -> Result<NetworkSpec, String> {
        let text = match self {
            Self::OneLinearLayer => {
                return NetworkSpec::from_toml(ONE_LINEAR_LAYER);
            }
            Self::Demo => TEACHER_RECIPE,
        };
        let recipe: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
        let network = recipe.get("network").and_then(toml::Value::as_table);
        NetworkSpec::from_toml(&network.ok_or("no [network]")?.to_string())
    }
}
