//! ONNX export and its check against libtorch.

use common::manifest::GoldenBatch;
use datasets::{Dataset, Normalization};
use networks::{NetworkSpec, Weights, WeightsError, onnx};
use onnx_runtime::{Session, SessionError, SessionOptions};

use crate::{
    config::ExportConfig,
    engine::{self, TorchError, TorchNetwork},
};

/// What is exported, and what it is compared on.
#[derive(Clone, Copy)]
pub struct ExportSource<'r> {
    /// The architecture.
    pub spec: &'r NetworkSpec,
    /// Its weights.
    pub weights: &'r Weights,
    /// The same in libtorch.
    pub network: &'r TorchNetwork,
    /// Real images.
    pub images: &'r Dataset,
    /// How pixels become the network's input.
    pub normalization: &'r Normalization,
}

/// An ONNX model that gives what libtorch gives.
#[derive(Debug)]
pub struct ExportedModel {
    /// The file's bytes: the same for the same weights.
    pub onnx: Vec<u8>,
    /// Images with libtorch's logits.
    pub golden_batch: GoldenBatch,
    /// Images compared.
    pub compared: usize,
    /// Of any logit of any of them.
    pub largest_difference: f32,
}

/// Why there is no ONNX model.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The writer refuses.
    #[error("cannot export to ONNX: {0}")]
    Write(#[from] WeightsError),
    /// ONNX Runtime refuses what was written.
    #[error("the exported ONNX model cannot be checked: {0}")]
    Session(#[from] SessionError),
    /// libtorch failed.
    #[error("the exported ONNX model cannot be checked: {0}")]
    Torch(#[from] TorchError),
    /// The two engines give other logits.
    #[error(
        "the exported ONNX model gives other logits than libtorch: they differ by up to \
         {difference:.3e} on image {image}, and export.tolerance is {tolerance:.3e}"
    )]
    Disagrees {
        /// Largest absolute difference; NaN where a logit is no number.
        difference: f32,
        /// Position of the image in the data set.
        image: usize,
        /// What is allowed.
        tolerance: f32,
    },
}

/// Writes the ONNX model, batch-norm folded, and compares its logits on the first images of the data
/// with libtorch's, both in f32.
///
/// # Errors
/// See [`ExportError`].
pub fn export(
    source: ExportSource<'_>,
    config: &ExportConfig,
) -> Result<ExportedModel, ExportError> {
    let ExportSource {
        images,
        normalization,
        ..
    } = source;
    let onnx = onnx::export(source.spec, source.weights)?;

    let compared = config.compare_samples.min(images.len());
    let pixels = &images.pixels()[..compared * images.image_size()];
    let expected = engine::logits(source.network, pixels, images.shape(), normalization)?;
    let [_, height, width] = images.shape();
    let mut input = Vec::new();
    normalization.apply(pixels, height * width, &mut input);
    let found = Session::load(&onnx, SessionOptions::default())?.run(&input, compared)?;

    let classes = images.classes();
    let (position, largest_difference) = largest_difference(&expected, &found);
    let agrees = largest_difference <= config.tolerance; // false for NaN
    if !agrees {
        return Err(ExportError::Disagrees {
            difference: largest_difference,
            image: position / classes,
            tolerance: config.tolerance,
        });
    }
    let golden = config.golden_samples.min(compared);
    Ok(ExportedModel {
        onnx,
        golden_batch: GoldenBatch {
            images: pixels[..golden * images.image_size()].to_vec(),
            logits: expected
                .chunks_exact(classes)
                .take(golden)
                .map(<[f32]>::to_vec)
                .collect(),
            tolerance: config.tolerance,
        },
        compared,
        largest_difference,
    })
}

/// Position and size of the largest difference; a NaN counts as larger than any number.
fn largest_difference(expected: &[f32], found: &[f32]) -> (usize, f32) {
    let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    differences
        .enumerate()
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .unwrap_or((0, f32::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_largest_difference() {
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.5, 2.25]), (0, 0.5));
        let (position, difference) = largest_difference(&[1.0, 2.0], &[9.0, f32::NAN]);
        assert!(position == 1 && difference.is_nan());
        assert!(largest_difference(&[], &[]).1.is_nan());
    }
}
