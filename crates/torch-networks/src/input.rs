//! A network's input: conversion of pixels, and the check of its shape.

use networks::Shape;
use tch::{Kind, Tensor};

use crate::TorchError;

/// Normalizes u8 pixels, [n, c, h, w] in row-major order: (x / 255 − mean) / std per channel, f32.
///
/// # Errors
/// [`TorchError::Input`] if the number of pixels, means or deviations does not match the shape.
pub fn normalize(
    pixels: &[u8],
    shape: [usize; 4],
    mean: &[f32],
    std: &[f32],
) -> Result<Tensor, TorchError> {
    let count = shape
        .iter()
        .try_fold(1usize, |count, &size| count.checked_mul(size));
    for (what, found, expected) in [
        ("number of pixels", pixels.len(), count),
        ("number of means", mean.len(), Some(shape[1])),
        ("number of standard deviations", std.len(), Some(shape[1])),
    ] {
        if Some(found) != expected {
            let expected = expected.map_or("fewer than 2^64".to_owned(), |expected| {
                expected.to_string()
            });
            return Err(TorchError::Input {
                what,
                found: found.to_string(),
                expected,
            });
        }
    }
    // One multiply-add per pixel: x · 1/(255·std) − mean/std.
    let scale: Vec<f32> = std.iter().map(|std| 1.0 / (255.0 * std)).collect();
    let shift: Vec<f32> = mean
        .iter()
        .zip(std)
        .map(|(mean, std)| -mean / std)
        .collect();
    let per_channel = |values: &[f32]| Tensor::f_from_slice(values)?.f_view([1, -1, 1, 1]);
    let pixels = Tensor::f_from_slice(pixels)?
        .f_view(shape.map(|size| size as i64))?
        .f_to_kind(Kind::Float)?;
    Ok(per_channel(&shift)?.f_addcmul(&pixels, &per_channel(&scale)?)?)
}

/// Checks that `input` is a batch of samples of this shape.
///
/// # Errors
/// [`TorchError::Input`].
pub(crate) fn check_shape(input: &Tensor, shape: Shape) -> Result<(), TorchError> {
    let expected = shape.dimensions();
    let size = input.size();
    let (samples, sample) = size.split_first().unwrap_or((&0, &[]));
    let fits = sample
        .iter()
        .map(|&size| size as usize)
        .eq(expected.iter().copied());
    if *samples == 0 || !fits {
        let expected: Vec<_> = expected.iter().map(usize::to_string).collect();
        return Err(TorchError::Input {
            what: "shape of the network's input",
            found: format!("{size:?}"),
            expected: format!("[at least 1, {}]", expected.join(", ")),
        });
    }
    Ok(())
}
