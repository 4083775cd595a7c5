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

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    const SIZE: [i64; 4] = [2, 3, 5, 7];

    fn draw(size: &[i64]) -> Tensor {
        let count: i64 = size.iter().product();
        let numbers = Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7;
        numbers.sin().view(size)
    }

    fn norm() -> BatchNorm {
        let options = (Kind::Float, Device::Cpu);
        BatchNorm {
            epsilon: 1e-5,
            scale: draw(&[3]) + 2.0,
            shift: draw(&[3]),
            mean: Tensor::zeros([3], options),
            variance: Tensor::ones([3], options),
        }
    }

    fn channels_last(tensor: &Tensor) -> Tensor {
        let rows = tensor.permute([0, 2, 3, 1]).contiguous();
        rows.permute([0, 3, 1, 2])
    }

    fn difference(found: &Tensor, expected: &Tensor) -> f64 {
        let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
        (found - expected).abs().max().double_value(&[])
    }

    #[test]
    fn layouts_that_are_not_fused_give_the_same_result() {
        let values = draw(&SIZE);
        for (kind, bound) in [(Kind::Float, 1e-5), (Kind::BFloat16, 0.1)] {
            // Every other row of a channels-last tensor.
            let twice = channels_last(&draw(&[2, 3, 10, 7])).to_kind(kind);
            let mut with_gaps = twice.slice(2, 0, 10, 2);
            with_gaps.copy_(&values);
            let others = [values.to_kind(kind), with_gaps];
            let carried = values.to_kind(kind) * 0.5;
            for activation in [None, Some(Activation::Relu), Some(Activation::Silu)] {
                let fused = norm();
                let input = channels_last(&values).to_kind(kind);
                assert!(torch_fused::is_fused(&input));
                let expected = fused.train(&input, Some(&carried), activation).unwrap();
                for other in &others {
                    assert!(!torch_fused::is_fused(other));
                    let plain = norm();
                    let found = plain.train(other, Some(&carried), activation).unwrap();
                    assert_eq!(found.kind(), kind);
                    let difference_of_results = difference(&found, &expected);
                    assert!(
                        difference_of_results <= bound,
                        "{kind:?}: {difference_of_results}"
                    );
                    assert!(difference(&plain.mean, &fused.mean) <= 1e-3);
                    assert!(difference(&plain.variance, &fused.variance) <= 1e-3);
                }
            }
        }
    }

    #[test]
    fn batches_without_a_variance_are_refused() {
        for size in [[0_i64, 3, 5, 7], [1, 3, 1, 1]] {
            let input = Tensor::zeros(size, (Kind::Float, Device::Cpu));
            for input in [channels_last(&input), input] {
                let error = norm().train(&input, None, None).unwrap_err().to_string();
                assert!(error.contains("larger batches"), "{error}");
            }
        }
    }
}
