//! Labels of mixed samples.

use datasets::MixedLabels;
use tch::{Device, Kind, TchError, Tensor};
use torch_networks::to_device;

/// The labels of the samples that those of a batch are mixed with.
#[derive(Debug)]
pub struct MixedTargets {
    /// i64 [batch]
    labels: Tensor,
    /// Weights w of `labels`, f32 [batch], 0 to 1/2.
    weights: Tensor,
}

impl MixedTargets {
    /// The labels as tensors on `device`.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn new(mixed: &MixedLabels, device: Device) -> Result<Self, TchError> {
        Ok(Self {
            labels: to_device(Tensor::f_from_slice(&mixed.labels)?, device)?,
            weights: to_device(Tensor::f_from_slice(&mixed.weights)?, device)?,
        })
    }

    /// (1 − w) L(y) + w L(y'), a mean over the batch: y are the `labels` of the batch, y' these, and L, f32 [batch], is
    /// the loss of each sample. Linear in the labels, so it is the loss of the mixed labels, as in timm's
    /// `SoftTargetCrossEntropy`.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn mean(
        &self,
        labels: &Tensor,
        losses: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Tensor, TchError> {
        let own = losses(labels)?;
        let difference = losses(&self.labels)?.f_sub(&own)?;
        own.f_add(&self.weights.f_mul(&difference)?)?
            .f_mean(Kind::Float)
    }
}
