//! Computes logits without training.

use datasets::{Normalization, Values};
use tch::Tensor;
use torch_networks::{Mode, Precision, TorchNetwork};

use super::TorchError;

/// Logits in f32 of `values`, samples of `shape`: row-major [samples, classes]. The caller limits the number of
/// samples, which bounds the memory of activations.
///
/// # Errors
/// If libtorch fails.
pub fn logits(
    network: &TorchNetwork,
    values: &Values,
    shape: [usize; 3],
    normalization: &Normalization,
) -> Result<Vec<f32>, TorchError> {
    let mut input = Vec::new();
    normalization.apply_to(values, &shape, &mut input);
    let input = image_tensor(&input, shape)?;
    let output = tch::no_grad(|| network.forward(&input, Mode::Evaluate, Precision::F32))?;
    Ok(Vec::try_from(output.f_view(-1)?)?)
}

/// Normalized `values` as a tensor [n, channels, height, width].
pub(super) fn image_tensor(values: &[f32], shape: [usize; 3]) -> Result<Tensor, TorchError> {
    let [channels, height, width] = shape.map(|dimension| dimension as i64);
    let tensor = Tensor::f_from_slice(values)?;
    Ok(tensor.f_view([-1, channels, height, width])?)
}
