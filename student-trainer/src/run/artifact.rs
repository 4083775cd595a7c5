//! A folder that holds a trained network: what a teacher service loads and what is published.
//!
//! ```text
//! weights.safetensors
//! model.toml            written after the weights; names their digest
//! model.onnx
//! manifest.json         written after the ONNX file
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use common::{atomic_file, folders};
use networks::{ModelFile, ModelFileError, Weights, WeightsError};

const WEIGHTS: &str = "weights.safetensors";
const MODEL: &str = "model.toml";
const ONNX: &str = "model.onnx";
const MANIFEST: &str = "manifest.json";

/// The folder of one trained network.
#[derive(Debug, Clone)]
pub struct ModelFolder(PathBuf);

/// Why a model folder cannot be read or written; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file is not there, or the disk is full.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A `weights.safetensors` that does not fit its network.
    #[error("{}: {error}", file.display())]
    Weights {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: WeightsError,
    },
    /// A `model.toml` that cannot be used.
    #[error("{}: {error}", file.display())]
    Model {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: ModelFileError,
    },
}

impl ModelFolder {
    /// The folder at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder at `path`, or that of the final weights where `path` is a run's folder.
    pub fn find(path: &Path) -> Self {
        let artifact = path.join("artifact");
        match artifact.join(MODEL).exists() {
            true => Self(artifact),
            false => Self(path.to_owned()),
        }
    }

    /// Whether description and weights are there.
    pub(super) fn is_whole(&self) -> bool {
        self.0.join(MODEL).exists()
    }

    /// Path of the weights.
    pub fn weights(&self) -> PathBuf {
        self.0.join(WEIGHTS)
    }

    /// Writes weights and description, which names their digest.
    ///
    /// # Errors
    /// See [`ArtifactError`].
    pub fn write(&self, model: &ModelFile, weights: &Weights) -> Result<(), ArtifactError> {
        let file = self.weights();
        let bytes = weights
            .to_safetensors()
            .map_err(|error| ArtifactError::Weights {
                file: file.clone(),
                error,
            })?;
        write(file, &bytes)?;
        let file = self.0.join(MODEL);
        let model = model.clone().with_weights(&bytes);
        let toml = model.to_toml().map_err(|error| ArtifactError::Model {
            file: file.clone(),
            error,
        })?;
        write(file, toml.as_bytes())
    }

    /// Writes the exported model and its manifest.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub fn write_onnx(&self, onnx: &[u8], manifest_json: &[u8]) -> Result<(), ArtifactError> {
        write(self.0.join(ONNX), onnx)?;
        write(self.0.join(MANIFEST), manifest_json)
    }

    /// Reads description and weights, which are held against the digest that the description names.
    ///
    /// # Errors
    /// See [`ArtifactError`].
    pub fn read(&self) -> Result<(ModelFile, Weights), ArtifactError> {
        let read = |file: &Path| {
            folders::read(file).map_err(|error| ArtifactError::Io {
                file: file.to_owned(),
                error,
            })
        };
        let file = self.0.join(MODEL);
        let text = read(&file)?;
        let text = String::from_utf8_lossy(&text);
        let model = match ModelFile::from_toml(&text) {
            Ok(model) => model,
            Err(error) => return Err(ArtifactError::Model { file, error }),
        };
        let file = self.weights();
        match model.read_weights(&read(&file)?) {
            Ok(weights) => Ok((model, weights)),
            Err(error) => Err(ArtifactError::Weights { file, error }),
        }
    }
}

fn write(file: PathBuf, bytes: &[u8]) -> Result<(), ArtifactError> {
    atomic_file::write(&file, bytes).map_err(|error| ArtifactError::Io { file, error })
}
