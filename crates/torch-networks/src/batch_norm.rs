//! Batch normalization.

use networks::Activation;
use tch::{TchError, Tensor};
use torch_fused::Limits;

use crate::{Mode, activation::add_and_activate};

/// The fraction of the running statistics that a training step replaces: PyTorch's default.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Batch normalization, Ioffe and Szegedy 2015. Every tensor is f32 [channels].
pub(crate) struct BatchNorm {
    pub epsilon: f64,
    pub scale: Tensor,
    pub shift: Tensor,
    pub mean: Tensor,
    pub variance: Tensor,
}

impl BatchNorm {
    pub(crate) fn forward(&self, input: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let training = matches!(mode, Mode::Train { .. });
        if training {
            self.check(input)?;
        }
        input.f_batch_norm(
            Some(&self.scale),
            Some(&self.shift),
            Some(&self.mean),
            Some(&self.variance),
            training,
            BATCH_NORM_MOMENTUM,
            self.epsilon,
            true,
        )
    }

    /// Normalizes a batch in training, adds `carried`, if there is one, and applies the activation: in one operation where
    /// there is one for the input and the activation.
    pub(crate) fn train(
        &self,
        input: &Tensor,
        carried: Option<&Tensor>,
        activation: Option<Activation>,
    ) -> Result<Tensor, TchError> {
        self.check(input)?;
        let limits = match activation {
            None => Some(Limits::None),
            Some(Activation::Relu) => Some(Limits::Relu),
            Some(Activation::Relu6) => Some(Limits::Relu6),
            Some(Activation::Silu | Activation::HardSwish | Activation::Sigmoid) => None,
        };
        if !torch_fused::is_fused(input) {
            let mode = Mode::Train { dropout_seed: 0 };
            return add_and_activate(self.forward(input, mode)?, carried, activation);
        }
        let normalized = torch_fused::BatchNorm {
            scale: &self.scale,
            shift: &self.shift,
            running_mean: &self.mean,
            running_variance: &self.variance,
            residual: carried,
            momentum: BATCH_NORM_MOMENTUM,
            epsilon: self.epsilon,
            limits: limits.unwrap_or(Limits::None),
        };
        let normalized = normalized.forward(input)?;
        match limits {
            Some(_) => Ok(normalized),
            None => add_and_activate(normalized, None, activation),
        }
    }

    fn check(&self, input: &Tensor) -> Result<(), TchError> {
        if input.numel() >= 2 * self.mean.numel() {
            return Ok(());
        }
        // The variance would be 0/0, and the running statistics would keep it.
        let reason = "batch-norm cannot train on a single value per channel; use larger batches";
        Err(TchError::Shape(reason.to_owned()))
    }

    /// Weight and bias of the convolution with folded batch-norm (see `networks::fold_batch_norm`).
    pub(crate) fn fold_into(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor), TchError> {
        let deviation = self.variance.f_add_scalar(self.epsilon)?.f_sqrt()?;
        let scale = self.scale.f_div(&deviation)?;
        let centre = match bias {
            Some(bias) => self.mean.f_sub(bias)?,
            None => self.mean.shallow_clone(),
        };
        let bias = self.shift.f_sub(&centre.f_mul(&scale)?)?;
        Ok((weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?, bias))
    }
}
