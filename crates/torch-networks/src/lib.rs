//! Networks in libtorch: forward passes in f32 or bf16, gradients, evaluation.
//!
//! A [`TorchNetwork`] is built from a `networks::NetworkSpec` and weights. libtorch's autocast works
//! on CUDA only, so the layers cast to bf16 themselves if that is faster: see [`Precision`].
//! A [`FakeQuantizedNetwork`] computes as the network's form in int8 does, with gradients.
//! [`numerics`] describes everything except the weights that affects the bits of the logits.

mod activation;
mod batch_norm;
mod conv_block;
mod device;
mod dropout;
mod error;
mod fake_quantization;
mod input;
mod instruction_set;
mod mode;
mod module;
mod network;
mod numerics;
mod precision;
mod transfer;

pub use batch_norm::BATCH_NORM_MOMENTUM;
pub use device::{DeviceUnavailable, gpu_uuid, resolve_device};
pub use error::TorchError;
pub use fake_quantization::FakeQuantizedNetwork;
pub use input::normalize;
pub use instruction_set::InstructionSet;
pub use mode::Mode;
pub use network::{TorchNetwork, to_tensor, to_values};
pub use numerics::{Numerics, describe_device, numerics};
pub use precision::Precision;
pub use tch::Device;
pub use transfer::to_device;

/// Sets how many threads libtorch uses inside one operation, for calls from this thread.
/// The count affects the bits of training, but not those of a forward pass in evaluation.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}
