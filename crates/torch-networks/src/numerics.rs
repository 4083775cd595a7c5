//! Numerics: everything except the weights that affects the bits of the logits.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor, no_grad};

use crate::{InstructionSet, Mode, Precision, TorchError, TorchNetwork};

/// Samples in the probe batch.
const PROBE_SAMPLES: usize = 16;

/// Identifies a computation: networks with equal weights and equal numerics give equal bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numerics {
    /// Human-readable: precision, device, instruction set, libtorch's version.
    pub descriptor: String,
    /// SHA-256 of the logits (little-endian f32) of a fixed probe batch, in hexadecimal.
    pub probe_sha256: String,
}

/// Computes the logits of the probe batch and describes the environment.
///
/// # Errors
/// Errors of libtorch.
pub fn numerics(network: &TorchNetwork, precision: Precision) -> Result<Numerics, TorchError> {
    let logits = no_grad(|| network.forward(&probe(network)?, Mode::Evaluate, precision))?;
    let logits: Vec<f32> = Vec::try_from(logits.f_reshape([-1])?)?;
    let digest = Sha256::digest(
        logits
            .iter()
            .flat_map(|logit| logit.to_le_bytes())
            .collect::<Vec<_>>(),
    );
    Ok(Numerics {
        descriptor: format!("{precision} on {}", describe_device(network.device())),
        probe_sha256: hex::encode(digest),
    })
}

/// What affects the bits of results on `device`: instruction set, or model of the GPU and cuDNN's version, and
/// libtorch's version, for people. GPUs of one model give the same bits, so their index is not part of it.
pub fn describe_device(device: Device) -> String {
    let device = match device {
        Device::Cpu => format!("cpu ({})", InstructionSet::current()),
        Device::Cuda(index) => match torch_cuda::device(index) {
            Some(device) => {
                let (major, minor) = device.capability;
                let cudnn = tch::utils::version_cudnn();
                format!(
                    "cuda ({}, compute capability {major}.{minor}, cudnn {cudnn})",
                    device.name
                )
            }
            None => format!("cuda:{index}"),
        },
        device => format!("{device:?}").to_lowercase(),
    };
    format!("{device}, libtorch {}", env!("LIBTORCH_VERSION"))
}

/// The probe batch: uniform values in [-2, 2), roughly the range of normalized pixels.
fn probe(network: &TorchNetwork) -> Result<Tensor, TorchError> {
    let sample = network.spec().input;
    let mut random = ChaCha8Rng::from_seed(*b"retort: the numerics probe batch");
    let values: Vec<f32> = (0..PROBE_SAMPLES * sample.elements())
        .map(|_| (random.next_u32() >> 8) as f32 / (1 << 22) as f32 - 2.0)
        .collect();
    let sizes = sample.dimensions().into_iter().map(|size| size as i64);
    let shape: Vec<_> = [PROBE_SAMPLES as i64].into_iter().chain(sizes).collect();
    Ok(Tensor::f_from_slice(&values)?
        .f_view(shape.as_slice())?
        .f_to_device(network.device())?)
}
