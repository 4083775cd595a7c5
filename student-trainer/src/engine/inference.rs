//! Computes logits without training.

use datasets::{Normalization, Values};
use networks::Shape;
use tch::Tensor;
use torch_networks::{Device, FakeQuantizedNetwork, Mode, Precision, TorchNetwork, to_device};

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
    let input = normalized(values, shape, normalization, network.device())?;
    let output = tch::no_grad(|| network.forward(&input, Mode::Evaluate, Precision::F32))?;
    flat(&output)
}

/// As [`logits`], of the network's form in int8.
///
/// # Errors
/// If libtorch fails.
pub fn int8_logits(
    network: &FakeQuantizedNetwork,
    values: &Values,
    shape: Shape,
    normalization: &Normalization,
) -> Result<Vec<f32>, TorchError> {
    let input = normalized(values, shape, normalization, network.device())?;
    flat(&tch::no_grad(|| network.forward(&input))?)
}

/// Normalized `values` as a tensor on `device`.
fn normalized(
    values: &Values,
    shape: Shape,
    normalization: &Normalization,
    device: Device,
) -> Result<Tensor, TorchError> {
    let mut input = Vec::new();
    normalization.apply_to(values, &shape.dimensions(), &mut input);
    Ok(to_device(input_tensor(&input, shape)?, device)?)
}

/// The values of logits, row-major.
fn flat(logits: &Tensor) -> Result<Vec<f32>, TorchError> {
    Ok(Vec::try_from(logits.f_to_device(Device::Cpu)?.f_view(-1)?)?)
}

/// Normalized `values` as a tensor [n, channels, height, width] or [n, features], on the CPU.
pub(super) fn input_tensor(values: &[f32], shape: Shape) -> Result<Tensor, TorchError> {
    let sample = shape.dimensions().into_iter().map(|size| size as i64);
    let sizes: Vec<i64> = [-1].into_iter().chain(sample).collect();
    Ok(Tensor::f_from_slice(values)?.f_view(&sizes[..])?)
}
