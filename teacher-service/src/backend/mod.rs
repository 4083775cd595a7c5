//! The backends that compute logits.
//!
//! A [`Backend`] answers batches. Retort's own networks are one (`retort_network`); the formats of other
//! programs are [`Classifier`]s, and [`CardedClassifier`] makes a backend of each.

mod class_groups;
mod classifier;
mod facts;
#[cfg(any(feature = "libtorch", feature = "onnx"))]
mod file_digest;
mod inference_server;
#[cfg(feature = "onnx")]
mod onnx;
mod probe;
#[cfg(feature = "libtorch")]
mod published_network;
#[cfg(feature = "libtorch")]
mod retort_network;
#[cfg(feature = "libtorch")]
mod torch_program;

use std::{io, path::PathBuf};

use artifacts::manifest::TeacherIdentity;
use datasets::Interpolation;
use tensors::{DataType, TensorSpec};
use tokio::sync::watch;

use crate::{
    batch::Batch,
    config::ComputeConfig,
    model::{
        ModelConfig,
        card::{CardConfig, CardError},
        card_files::CardFileError,
        class_map::ClassMapError,
        format::{FormatError, ModelFormat},
        output_values::OutputContradiction,
    },
};

use class_groups::GroupedClasses;
pub use classifier::{CardedClassifier, Classifier};
pub(crate) use classifier::{CardedModel, choose_output, class_count, own_card, read_files};
pub use facts::ModelFacts;
pub use inference_server::{InferenceServerError, InferenceServerModel};
#[cfg(feature = "onnx")]
pub use onnx::OnnxFile;
pub(crate) use probe::batch as probe_batch;
#[cfg(feature = "libtorch")]
pub use published_network::{PublishedNetwork, PublishedNetworkError};
#[cfg(feature = "libtorch")]
pub use retort_network::{RetortNetwork, RetortNetworkError};
#[cfg(feature = "libtorch")]
pub use torch_program::{TorchProgram, TorchProgramError};

/// A teacher model, used by the compute thread only.
pub trait Backend {
    /// The description of the teacher and its input.
    fn description(&self) -> &Description;

    /// Computes the raw logits of one batch, row-major [batch, classes].
    ///
    /// # Errors
    /// If the computation fails; a later batch may succeed.
    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError>;

    /// What is known about the model besides what its trainers need.
    fn facts(&self) -> ModelFacts {
        ModelFacts::default()
    }

    /// Changes of the model's readiness; `None` for a model in this process, which is always ready.
    fn readiness(&self) -> Option<Readiness> {
        None
    }
}

/// Whether a model elsewhere is ready.
pub type Readiness = watch::Receiver<bool>;

/// The description of a teacher and its input.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Everything that determines the bits of the logits.
    pub identity: TeacherIdentity,
    /// What a batch must contain: UINT8 images [batch, channels, height, width], which the backend
    /// normalizes, or FP32 samples of any shape. Only the batch may be open.
    pub input: TensorSpec,
    /// How trainers resize images to the size of the input.
    pub interpolation: Interpolation,
    /// For messages: what the backend does with a batch before its model sees it.
    pub preprocessing: String,
    /// In logit order.
    pub class_names: Vec<String>,
}

impl Description {
    /// The logits: FP32 [batch, classes].
    pub fn output(&self) -> TensorSpec {
        TensorSpec::batch_of("logits", DataType::Fp32, &[self.class_names.len()])
    }
}

/// The backend could not compute a batch.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// Why a teacher cannot be loaded; the text names the file or the key.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path leads to no known format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The program was built without the engine of the format.
    #[error(
        "{}: this teacher-service was built without {feature}; build it with the cargo feature \
         `{feature}`", path.display()
    )]
    NotBuilt {
        /// The model.
        path: PathBuf,
        /// The missing feature.
        feature: &'static str,
    },
    /// The folder of a run cannot be used.
    #[cfg(feature = "libtorch")]
    #[error(transparent)]
    RetortNetwork(#[from] RetortNetworkError),
    /// The published weights cannot be used.
    #[cfg(feature = "libtorch")]
    #[error(transparent)]
    PublishedNetwork(#[from] PublishedNetworkError),
    /// The program of PyTorch cannot be used.
    #[cfg(feature = "libtorch")]
    #[error(transparent)]
    TorchProgram(#[from] TorchProgramError),
    /// The ONNX file cannot be used.
    #[cfg(feature = "onnx")]
    #[error(transparent)]
    Onnx(#[from] onnx_runtime::OnnxModelError),
    /// The inference server cannot be used.
    #[error(transparent)]
    InferenceServer(#[from] InferenceServerError),
    /// A file of the model cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A model of Retort's own has a card already.
    #[error(
        "{}: an artifact knows its own preprocessing, classes and output; remove \
         [model.preprocessing] and model.output", path.display()
    )]
    CardNotUsed {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing says which network a file of weights belongs to.
    #[error(
        "{}: a safetensors file holds weights but no network; set model.network.preset to resnet18, resnet34, \
         resnet50, mobilenet_v2, efficientnet_lite0 or vgg16_bn, or give a folder with weights.safetensors and \
         model.toml", path.display()
    )]
    NetworkMissing {
        /// The file.
        path: PathBuf,
    },
    /// The model says itself which network it is.
    #[error("{}: [model.network] is for safetensors files only; remove it", path.display())]
    NetworkNotUsed {
        /// The model.
        path: PathBuf,
    },
    /// The model has not one input.
    #[error("{}: a teacher has one input; the model is {signature}", path.display())]
    Inputs {
        /// The model.
        path: PathBuf,
        /// Its inputs and outputs.
        signature: String,
    },
    /// The output is not clear.
    #[error(
        "{}: {problem}; set model.output to the one with a value per class. The model is {signature}",
        path.display()
    )]
    Output {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// Its inputs and outputs.
        signature: String,
    },
    /// The preprocessing is incomplete or wrong.
    #[error("{}: {source}", path.display())]
    Card {
        /// The model.
        path: PathBuf,
        /// Why.
        source: CardError,
    },
    /// A file that describes the preprocessing cannot be used.
    #[error(transparent)]
    CardFile(#[from] CardFileError),
    /// The groups of classes do not fit the model.
    #[error(transparent)]
    ClassMap(#[from] ClassMapError),
    /// The model's outputs contradict the card.
    #[error("{}: {source} in [model.preprocessing]", path.display())]
    Kind {
        /// The model.
        path: PathBuf,
        /// The contradiction, and what to set.
        source: OutputContradiction,
    },
    /// The model cannot compute a first batch.
    #[error("{}: the model cannot compute a batch: {source}", path.display())]
    Probe {
        /// The model.
        path: PathBuf,
        /// Why.
        source: BackendError,
    },
}

/// A model before anything is known about its preprocessing.
pub(crate) enum OpenedModel {
    /// A network of Retort's own, which knows its preprocessing.
    Network(Box<dyn Backend>),
    /// A model in the format of another program, which needs a card.
    Classifier(Box<dyn Classifier>),
}

/// Opens the configured model, whatever its format.
///
/// # Errors
/// See [`LoadError`].
pub fn open(model: &ModelConfig, compute: &ComputeConfig) -> Result<Box<dyn Backend>, LoadError> {
    let backend: Box<dyn Backend> = match open_model(model, compute)? {
        OpenedModel::Network(network) => network,
        OpenedModel::Classifier(classifier) => Box::new(CardedClassifier::new(classifier, model)?),
    };
    if model.classes.is_empty() {
        return Ok(backend);
    }
    let groups = model.classes.resolve(&backend.description().class_names)?;
    Ok(Box::new(GroupedClasses::new(backend, groups)))
}

/// Opens the configured model without its card and without its groups of classes.
///
/// # Errors
/// See [`LoadError`].
pub(crate) fn open_model(
    model: &ModelConfig,
    compute: &ComputeConfig,
) -> Result<OpenedModel, LoadError> {
    let path = &model.path;
    #[cfg(not(all(feature = "libtorch", feature = "onnx")))]
    let not_built = |feature| {
        Err(LoadError::NotBuilt {
            path: path.clone(),
            feature,
        })
    };
    let format = model.format.resolve(path)?;
    if format != ModelFormat::Safetensors && model.network.is_some() {
        return Err(LoadError::NetworkNotUsed { path: path.clone() });
    }
    let classifier: Box<dyn Classifier> = match format {
        ModelFormat::Artifact => {
            if model.preprocessing != CardConfig::default() || model.output.is_some() {
                return Err(LoadError::CardNotUsed { path: path.clone() });
            }
            #[cfg(feature = "libtorch")]
            {
                let network = RetortNetwork::load(path, compute)?;
                return Ok(OpenedModel::Network(Box::new(network)));
            }
            #[cfg(not(feature = "libtorch"))]
            {
                return not_built("libtorch");
            }
        }
        #[cfg(feature = "onnx")]
        ModelFormat::Onnx => Box::new(OnnxFile::open(path, compute)?),
        #[cfg(not(feature = "onnx"))]
        ModelFormat::Onnx => return not_built("onnx"),
        #[cfg(feature = "libtorch")]
        ModelFormat::TorchProgram | ModelFormat::TorchScript => {
            Box::new(TorchProgram::open(path, compute)?)
        }
        #[cfg(feature = "libtorch")]
        ModelFormat::Safetensors => {
            let network = model.network.as_ref();
            let network =
                network.ok_or_else(|| LoadError::NetworkMissing { path: path.clone() })?;
            Box::new(PublishedNetwork::open(path, network, compute)?)
        }
        #[cfg(not(feature = "libtorch"))]
        ModelFormat::TorchProgram | ModelFormat::TorchScript | ModelFormat::Safetensors => {
            return not_built("libtorch");
        }
        ModelFormat::InferenceServer => {
            Box::new(InferenceServerModel::connect(path, &model.server)?)
        }
    };
    Ok(OpenedModel::Classifier(classifier))
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn description(&self) -> &Description {
        (**self).description()
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        (**self).logits(batch)
    }

    fn facts(&self) -> ModelFacts {
        (**self).facts()
    }

    fn readiness(&self) -> Option<Readiness> {
        (**self).readiness()
    }
}
