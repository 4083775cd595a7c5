//! The backend that computes logits with libtorch, for the networks that Retort trains.

use std::{
    io,
    path::{Path, PathBuf},
};

use artifacts::manifest::TeacherIdentity;
use common::{cores, folders};
use datasets::Interpolation;
use networks::{ModelFile, ModelFileError, Shape, SpecError, Weights, WeightsError, model_id};
use tch::Tensor;
use tensors::{DataType, TensorSpec};
use torch_networks::{
    Device, DeviceUnavailable, Mode, Precision, TorchError, TorchNetwork, normalize, numerics,
    resolve_device,
};
use tracing::warn;

use super::{Backend, BackendError, Description, ModelFacts};
use crate::{
    batch::{Batch, Input},
    config::ComputeConfig,
};

/// Name of the file with the weights.
const WEIGHTS_FILE: &str = "weights.safetensors";
/// Name of the file with architecture, classes and normalization.
const MODEL_FILE: &str = "model.toml";

/// A teacher loaded from an artifact folder.
pub struct RetortNetwork {
    network: TorchNetwork,
    precision: Precision,
    /// Of one sample.
    shape: Shape,
    /// Per channel of images, per value of rows.
    normalization_mean: Vec<f32>,
    /// Per channel of images, per value of rows; above 0.
    normalization_std: Vec<f32>,
    /// Number of trained values.
    parameters: u64,
    description: Description,
}

/// Why an artifact folder is rejected. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum RetortNetworkError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `model.toml` is invalid.
    #[error("{}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ModelFileError,
    },
    /// `weights.safetensors` is invalid, or does not belong to the model.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: WeightsError,
    },
    /// The network's spec is invalid.
    #[error("{}: {source}", path.display())]
    Network {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: SpecError,
    },
    /// The configured device is not available.
    #[error("compute.device: {0}")]
    Device(#[from] DeviceUnavailable),
    /// libtorch cannot run the network.
    #[error("{}: {source}", path.display())]
    Engine {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: TorchError,
    },
}

impl RetortNetwork {
    /// Loads the artifact in `folder` and sets libtorch's number of threads for the calling thread.
    ///
    /// # Errors
    /// See [`RetortNetworkError`].
    pub fn load(folder: &Path, config: &ComputeConfig) -> Result<Self, RetortNetworkError> {
        let (model, weights) = read_artifact(folder)?;
        let path = || folder.to_owned();
        let model_id =
            model_id(&model.network, &weights).map_err(|source| RetortNetworkError::Network {
                path: path(),
                source,
            })?;

        torch_networks::set_threads(cores::threads(config.threads));
        let engine = |source| RetortNetworkError::Engine {
            path: path(),
            source,
        };
        let device = resolve_device(config.device)?;
        let network = TorchNetwork::new(&model.network, &weights, device).map_err(engine)?;
        let precision = Precision::on(device, config.precision);
        let numerics = numerics(&network, precision).map_err(engine)?;
        let description = Description {
            identity: TeacherIdentity {
                model_id: model_id.to_string(),
                numerics: numerics.descriptor,
                probe_sha256: numerics.probe_sha256,
            },
            input: input(model.network.input),
            interpolation: Interpolation::Bilinear,
            preprocessing: preprocessing(&model),
            class_names: model.class_names,
        };
        let cost =
            networks::cost(&model.network).map_err(|source| RetortNetworkError::Network {
                path: path(),
                source,
            })?;
        Ok(Self {
            parameters: cost.parameters,
            shape: model.network.input,
            normalization_mean: model.normalization_mean,
            normalization_std: model.normalization_std,
            network,
            precision,
            description,
        })
    }

    fn input(&self, batch: &Batch) -> Result<Tensor, TorchError> {
        let (mean, std) = (&self.normalization_mean, &self.normalization_std);
        match (&batch.input, self.shape) {
            (
                Input::U8(pixels),
                Shape::Image {
                    channels,
                    height,
                    width,
                },
            ) => {
                let shape = [batch.samples, channels, height, width];
                normalize(pixels, shape, mean, std)
            }
            (Input::F32(values), Shape::Vector { features }) => {
                let rows = Tensor::f_from_slice(values)?.f_view([-1, features as i64])?;
                let centered = rows.f_sub(&Tensor::f_from_slice(mean)?)?;
                Ok(centered.f_div(&Tensor::f_from_slice(std)?)?)
            }
            _ => unreachable!("a batch has the type that the description names"),
        }
    }
}

impl Backend for RetortNetwork {
    fn description(&self) -> &Description {
        &self.description
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        let compute = || {
            let input = self.input(batch)?.f_to_device(self.network.device())?;
            let logits = self
                .network
                .forward(&input, Mode::Evaluate, self.precision)?;
            let logits = logits.f_to_device(Device::Cpu)?;
            Ok(Vec::try_from(logits.f_reshape([-1])?)?)
        };
        tch::no_grad(compute).map_err(|error: TorchError| BackendError(error.to_string()))
    }

    fn facts(&self) -> ModelFacts {
        ModelFacts {
            parameters: Some(self.parameters),
            ..ModelFacts::default()
        }
    }
}

/// What a network with this input takes: pixels, or rows before their standardization.
fn input(shape: Shape) -> TensorSpec {
    let (name, data_type) = match shape {
        Shape::Image { .. } => ("pixels", DataType::Uint8),
        Shape::Vector { .. } => ("rows", DataType::Fp32),
    };
    TensorSpec::batch_of(name, data_type, &shape.dimensions())
}

fn preprocessing(model: &ModelFile) -> String {
    match model.network.input {
        Shape::Image { .. } => format!(
            "(x / 255 - mean) / std, mean {:?}, std {:?}",
            model.normalization_mean, model.normalization_std
        ),
        Shape::Vector { .. } => "(x - mean) / std, of the rows of its training".to_owned(),
    }
}

fn read_artifact(folder: &Path) -> Result<(ModelFile, Weights), RetortNetworkError> {
    let read = |path: &Path| {
        folders::read(path).map_err(|source| RetortNetworkError::Unreadable {
            path: path.to_owned(),
            source,
        })
    };
    let path = folder.join(MODEL_FILE);
    let text = read(&path)?;
    let text = String::from_utf8_lossy(&text);
    let model = match ModelFile::from_toml(&text) {
        Ok(model) => model,
        Err(source) => return Err(RetortNetworkError::Model { path, source }),
    };
    if model.weights_sha256.is_none() {
        warn!(
            file = %path.display(),
            "contains no digest of the weights (format_version 1), so damaged weights are not detected; \
             artifacts written by this version contain one"
        );
    }
    let path = folder.join(WEIGHTS_FILE);
    match model.read_weights(&read(&path)?) {
        Ok(weights) => Ok((model, weights)),
        Err(source) => Err(RetortNetworkError::Weights { path, source }),
    }
}
