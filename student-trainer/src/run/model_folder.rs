//! The folder of a trained network, which a teacher service loads and the trainer publishes.
//!
//! ```text
//! weights.safetensors
//! model.toml            written after the weights; holds their digest
//! model.onnx
//! manifest.json         written after the ONNX file
//! model.sig             the signature of all other files, if the run signs
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use common::{atomic_file, folders};
use model_signing::{SIGNATURE_FILE, SigningError, SigningKey};
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
pub enum ModelFolderError {
    /// An I/O error.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// `weights.safetensors` does not fit its network.
    #[error("{}: {error}", file.display())]
    Weights {
        /// The file.
        file: PathBuf,
        /// The problem.
        error: WeightsError,
    },
    /// `model.toml` cannot be used.
    #[error("{}: {error}", file.display())]
    Model {
        /// The file.
        file: PathBuf,
        /// The problem.
        error: ModelFileError,
    },
}

impl ModelFolder {
    /// The folder at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder at `path`, or that of the final weights if `path` is a run's folder.
    pub fn find(path: &Path) -> Self {
        let artifact = path.join("artifact");
        if artifact.join(MODEL).exists() {
            Self(artifact)
        } else {
            Self(path.to_owned())
        }
    }

    /// Whether it holds description and weights.
    pub(super) fn is_complete(&self) -> bool {
        self.0.join(MODEL).exists()
    }

    /// Path of the weights.
    pub fn weights(&self) -> PathBuf {
        self.0.join(WEIGHTS)
    }

    /// Writes weights and description; the description holds the digest of the weights.
    ///
    /// # Errors
    /// See [`ModelFolderError`].
    pub fn write(&self, model: &ModelFile, weights: &Weights) -> Result<(), ModelFolderError> {
        let file = self.weights();
        let bytes = weights
            .to_safetensors()
            .map_err(|error| ModelFolderError::Weights {
                file: file.clone(),
                error,
            })?;
        write(file, &bytes)?;
        let file = self.0.join(MODEL);
        let model = model.clone().with_weights(&bytes);
        let toml = model.to_toml().map_err(|error| ModelFolderError::Model {
            file: file.clone(),
            error,
        })?;
        write(file, toml.as_bytes())
    }

    /// Writes the exported model and its manifest. Removes the signature of an older model.
    ///
    /// # Errors
    /// [`ModelFolderError::Io`].
    pub fn write_onnx(&self, onnx: &[u8], manifest_json: &[u8]) -> Result<(), ModelFolderError> {
        let file = self.0.join(SIGNATURE_FILE);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ModelFolderError::Io { file, error });
            }
            _ => {}
        }
        write(self.0.join(ONNX), onnx)?;
        write(self.0.join(MANIFEST), manifest_json)
    }

    /// Signs all files and writes the signature; returns it.
    ///
    /// # Errors
    /// See [`SigningError`].
    pub(super) fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, SigningError> {
        model_signing::sign_folder(&self.0, key)
    }

    /// Reads description and weights, and verifies the weights against the digest in the description.
    ///
    /// # Errors
    /// See [`ModelFolderError`].
    pub fn read(&self) -> Result<(ModelFile, Weights), ModelFolderError> {
        let read = |file: &Path| {
            folders::read(file).map_err(|error| ModelFolderError::Io {
                file: file.to_owned(),
                error,
            })
        };
        let file = self.0.join(MODEL);
        let text = read(&file)?;
        let text = String::from_utf8_lossy(&text);
        let model = match ModelFile::from_toml(&text) {
            Ok(model) => model,
            Err(error) => return Err(ModelFolderError::Model { file, error }),
        };
        let file = self.weights();
        match model.read_weights(&read(&file)?) {
            Ok(weights) => Ok((model, weights)),
            Err(error) => Err(ModelFolderError::Weights { file, error }),
        }
    }
}

fn write(file: PathBuf, bytes: &[u8]) -> Result<(), ModelFolderError> {
    atomic_file::write(&file, bytes).map_err(|error| ModelFolderError::Io { file, error })
}
