//! Computes logits without training.

use datasets::{Normalization, Values};
use networks::Shape;
use tch::Tensor;
use torch_networks::{Device, Mode, Precision, TorchNetwork, to_device};

use super::TorchError;

/// Logits in f32 of `values`, samples of `shape`: row-major [samples, classes]. The caller limits the number of
/// samples, which bounds the memory of activations.
///
/// # Errors
/// If libtorch fails.
pub fn logits(
    network: &TorchNetwork,
    values: &Values,
    shape: Shape,
    normalization: &Normalization,
) -> Result<Vec<f32>, TorchError> {
    let mut input = Vec::new();
    normalization.apply_to(values, &shape.dimensions(), &mut input);
    let input = to_device(input_tensor(&input, shape)?, network.device())?;
    let output = tch::no_grad(|| network.forward(&input, Mode::Evaluate, Precision::F32))?;
    Ok(Vec::try_from(output.f_to_device(Device::Cpu)?.f_view(-1)?)?)
}

/// Normalized `values` as a tensor [n, channels, height, width] or [n, features], on the CPU.
pub(super) fn input_tensor(values: &[f32], shape: Shape) -> Result<Tensor, TorchError> {
    let sample = shape.dimensions().into_iter().map(|size| size as i64);
    let sizes: Vec<i64> = [-1].into_iter().chain(sample).collect();
    Ok(Tensor::f_from_slice(values)?.f_view(&sizes[..])?)
}
