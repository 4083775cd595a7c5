//! What a network *does*, in libtorch: forward passes in f32 or bf16, gradients, evaluation.
//!
//! [`TorchNetwork`] is made of a `networks::NetworkSpec` and its weights. libtorch's autocast works
//! on CUDA only, so the layers themselves cast to bf16 where that pays: see [`Precision`].
//! [`numerics`] describes what else than the weights decides the bits of the logits.

mod device;
mod dropout;
mod error;
mod input;
mod instruction_set;
mod module;
mod network;
mod numerics;
mod precision;

pub use device::{DeviceChoice, DeviceUnavailable};
pub use error::TorchError;
pub use input::normalize;
pub use instruction_set::InstructionSet;
pub use network::{Mode, TorchNetwork, to_tensor, to_values};
pub use numerics::{Numerics, numerics};
pub use precision::{Precision, PrecisionChoice};
pub use tch::Device;

/// Sets how many threads libtorch uses inside one operation, when called from this thread.
/// Training gives other bits with another count; a forward pass does not.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}
