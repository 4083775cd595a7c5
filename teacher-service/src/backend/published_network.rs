//! Weights that other projects published, in libtorch, as one of Retort's networks.

use std::{
    io,
    path::{Path, PathBuf},
};

use common::{cores, digest::Sha256, folders};
use networks::{
    Weights,
    weights::public::{self, OtherEnds, PublicWeightsError},
};
use tch::Tensor;
use tensors::{DataType, Dimension, Dimensions, Signature, TensorSpec};
use torch_networks::{
    Device, DeviceUnavailable, Mode, Precision, TorchError, TorchNetwork, describe_device,
    resolve_device,
};
use tracing::info;

use super::{BackendError, Classifier, ModelFacts};
use crate::{batch::Input, config::ComputeConfig, model::network::NetworkConfig};

/// Names of input and output, which the file does not have.
const INPUT: &str = "input";
const OUTPUT: &str = "logits";

/// A safetensors file under the names of torchvision, timm, Hugging Face or efficientnet-pytorch.
pub struct PublishedNetwork {
    config: NetworkConfig,
    weights: Weights,
    classes: usize,
    parameters: u64,
    signature: Signature,
    digest: Sha256,
    device: Device,
    precision: Precision,
    /// Built for the first batch, which has the size of all images.
    network: Option<TorchNetwork>,
}

/// Why published weights cannot be used; the text names the file or the key.
#[derive(Debug, thiserror::Error)]
pub enum PublishedNetworkError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold the weights of the network.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<PublicWeightsError>,
    },
    /// The network is none.
    #[error("model.network: {0}")]
    Network(String),
    /// The configured device is not there.
    #[error("compute.device: {0}")]
    Device(#[from] DeviceUnavailable),
}

impl PublishedNetwork {
    /// Reads the weights of the network `config` from the file `path`. Sets libtorch's thread count for the
    /// calling thread.
    ///
    /// # Errors
    /// See [`PublishedNetworkError`].
    pub fn open(
        path: &Path,
        config: &NetworkConfig,
        compute: &ComputeConfig,
    ) -> Result<Self, PublishedNetworkError> {
        let device = resolve_device(compute.device)?;
        torch_networks::set_threads(cores::threads(compute.threads));
        let bytes = folders::read(path).map_err(|source| PublishedNetworkError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let refused = |source| PublishedNetworkError::Weights {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let typical = config
            .typical_spec()
            .map_err(PublishedNetworkError::Network)?;
        let ends = public::ends(&bytes, &typical).map_err(refused)?;
        let [_, height, width] = typical
            .input
            .image()
            .map_err(|error| PublishedNetworkError::Network(error.to_string()))?;
        let spec = config
            .spec([ends.channels, height, width], ends.classes)
            .map_err(PublishedNetworkError::Network)?;
        let read = public::read(&bytes, &spec, OtherEnds::Refuse).map_err(refused)?;
        let cost = networks::cost(&spec)
            .map_err(|error| PublishedNetworkError::Network(error.to_string()))?;
        let parameters = cost.parameters;
        info!(names = %read.naming, classes = ends.classes, parameters, "published weights");
        Ok(Self {
            parameters,
            digest: digest(&bytes, config),
            config: config.clone(),
            weights: read.weights,
            classes: ends.classes,
            signature: signature(ends.channels, ends.classes),
            device,
            precision: Precision::on(device, compute.precision),
            network: None,
        })
    }

    fn compute(
        &mut self,
        input: &Input,
        sample: [usize; 3],
        samples: usize,
    ) -> Result<Vec<f32>, BackendError> {
        let Input::F32(values) = input else {
            return Err(BackendError(
                "published networks take f32 values".to_owned(),
            ));
        };
        let failed = |error: TorchError| BackendError(error.to_string());
        let network = match self.network.take() {
            Some(network) => network,
            None => {
                let spec = self
                    .config
                    .spec(sample, self.classes)
                    .map_err(BackendError)?;
                TorchNetwork::new(&spec, &self.weights, self.device).map_err(failed)?
            }
        };
        let [channels, height, width] = sample;
        let shape = [samples, channels, height, width].map(|size| size as i64);
        let compute = || {
            let input = Tensor::f_from_slice(values)?
                .f_view(shape)?
                .f_to_device(self.device)?;
            let logits = network.forward(&input, Mode::Evaluate, self.precision)?;
            let logits = logits.f_to_device(Device::Cpu)?;
            Ok(Vec::try_from(logits.f_reshape([-1])?)?)
        };
        let logits = tch::no_grad(compute).map_err(failed);
        self.network = Some(network);
        logits
    }
}

impl Classifier for PublishedNetwork {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn digest(&self, _probe: &[f32]) -> Sha256 {
        self.digest.clone()
    }

    fn numerics(&self) -> String {
        format!("{} on {}", self.precision, describe_device(self.device))
    }

    fn facts(&self) -> ModelFacts {
        ModelFacts {
            parameters: Some(self.parameters),
            ..ModelFacts::default()
        }
    }

    fn run(
        &mut self,
        _output: &str,
        input: &Input,
        sample: &[usize],
        samples: usize,
    ) -> Result<Vec<f32>, BackendError> {
        let sample = <[usize; 3]>::try_from(sample);
        let sample =
            sample.map_err(|_| BackendError("published networks take images".to_owned()))?;
        self.compute(input, sample, samples)
    }
}

fn signature(channels: usize, classes: usize) -> Signature {
    let image = [
        Dimension::Batch,
        Dimension::Fixed(channels),
        Dimension::Open,
        Dimension::Open,
    ];
    Signature {
        inputs: vec![TensorSpec {
            name: INPUT.to_owned(),
            data_type: DataType::Fp32,
            dimensions: Dimensions(image.to_vec()),
        }],
        outputs: vec![TensorSpec::batch_of(OUTPUT, DataType::Fp32, &[classes])],
    }
}

/// Of the file and of the network that computes with it.
fn digest(bytes: &[u8], config: &NetworkConfig) -> Sha256 {
    // Holds: all keys are text.
    let network = serde_json::to_string(config).expect("it can be written as JSON");
    Sha256::of(format!("{} {network}", Sha256::of(bytes)).as_bytes())
}
