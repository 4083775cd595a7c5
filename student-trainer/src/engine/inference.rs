//! Computes logits without training.

use datasets::Normalization;
use tch::Tensor;
use torch_networks::{Mode, Precision, TorchNetwork};

use super::TorchError;

/// Images per batch; bounds the memory of activations.
const BATCH: usize = 250;

/// Logits in f32 of u8 `pixels`, [n, channels, height, width] with `shape` the last three: row-major
/// [n, classes].
///
/// # Errors
/// If libtorch fails.
pub fn logits(
    network: &TorchNetwork,
    pixels: &[u8],
    shape: [usize; 3],
    normalization: &Normalization,
) -> Result<Vec<f32>, TorchError> {
    let [_, height, width] = shape;
    let image: usize = shape.iter().product();
    let mut logits = Vec::new();
    let mut input = Vec::new();
    for batch in pixels.chunks(BATCH * image) {
        input.clear();
        normalization.apply(batch, height * width, &mut input);
        let input = image_tensor(&input, shape)?;
        let output = tch::no_grad(|| network.forward(&input, Mode::Evaluate, Precision::F32))?;
        logits.extend(Vec::<f32>::try_from(output.f_view(-1)?)?);
    }
    Ok(logits)
}

/// Normalized `values` as a tensor [n, channels, height, width].
pub(super) fn image_tensor(values: &[f32], shape: [usize; 3]) -> Result<Tensor, TorchError> {
    let [channels, height, width] = shape.map(|dimension| dimension as i64);
    let tensor = Tensor::f_from_slice(values)?;
    Ok(tensor.f_view([-1, channels, height, width])?)
}
