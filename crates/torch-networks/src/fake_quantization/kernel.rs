//! A convolution or linear layer with the weights that it has in the model in int8.

use networks::{
    Conv,
    onnx::{LARGEST_BIAS, LARGEST_WEIGHT},
};
use tch::{Kind, TchError, Tensor, no_grad};

use crate::{Precision, batch_norm::BatchNorm, conv_block::convolve};

/// A convolution or linear layer, and the batch-norms that are folded into it.
pub(super) struct Kernel {
    pub(super) product: Product,
    /// One row for each output channel.
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    pub(super) norms: Vec<BatchNorm>,
    /// Scale of the rounded input. Without one, the layer computes in f32.
    pub(super) input_scale: Option<f32>,
}

/// What is computed with the weights.
#[derive(Clone, Copy)]
pub(super) enum Product {
    Conv(Conv),
    Linear,
}

impl Kernel {
    /// `input` is rounded already, if the layer has a rounded one.
    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = self.rounded()?;
        match &self.product {
            Product::Conv(conv) => convolve(conv, input, &weight, bias.as_ref(), Precision::F32),
            Product::Linear => input.f_linear(&weight, bias.as_ref()),
        }
    }

    /// Weight and bias with batch-norm folded, as the exported model in int8 has them: to the last bit. Their
    /// gradients are those of the values before they were rounded.
    pub(super) fn rounded(&self) -> Result<(Tensor, Option<Tensor>), TchError> {
        let (weight, bias) = self.folded()?;
        let Some(input_scale) = self.input_scale else {
            return Ok((weight, bias));
        };
        let (rounded, rounded_bias) =
            no_grad(|| round_to_int8(&weight, bias.as_ref(), input_scale))?;
        let bias = bias.as_ref().zip(rounded_bias.as_ref());
        let bias = bias.map(|(bias, rounded)| straight_through(bias, rounded));
        Ok((straight_through(&weight, &rounded)?, bias.transpose()?))
    }

    /// Weight and bias in f32 with batch-norm folded, computed in f64 as by `networks::fold_batch_norm`.
    pub(super) fn folded(&self) -> Result<(Tensor, Option<Tensor>), TchError> {
        let mut weight = self.weight.shallow_clone();
        let mut bias = self.bias.as_ref().map(Tensor::shallow_clone);
        let mut per_row = vec![1i64; weight.dim()];
        per_row[0] = -1;
        for norm in &self.norms {
            let [gamma, beta, mean, variance] =
                [&norm.scale, &norm.shift, &norm.mean, &norm.variance]
                    .map(|tensor| tensor.f_to_kind(Kind::Double));
            let deviation = variance?.f_add_scalar(norm.epsilon)?.f_sqrt()?;
            let scale = gamma?.f_div(&deviation)?;
            let shift = beta?.f_sub(&mean?.f_mul(&scale)?)?;
            let double = weight.f_to_kind(Kind::Double)?;
            weight = double
                .f_mul(&scale.f_view(&per_row[..])?)?
                .f_to_kind(Kind::Float)?;
            let shifted = match &bias {
                Some(bias) => bias.f_to_kind(Kind::Double)?.f_mul(&scale)?.f_add(&shift)?,
                None => shift,
            };
            bias = Some(shifted.f_to_kind(Kind::Float)?);
        }
        Ok((weight, bias))
    }
}

/// The values of weight and bias after they went through int8 and int32: the formulas of
/// `crates/networks/src/onnx/quantize/rounding.rs`, in the same order, in f64.
fn round_to_int8(
    weight: &Tensor,
    bias: Option<&Tensor>,
    input_scale: f32,
) -> Result<(Tensor, Option<Tensor>), TchError> {
    let input_scale = f64::from(input_scale);
    let rows = weight.f_to_kind(Kind::Double)?;
    let rows = rows.f_reshape([weight.size()[0], -1])?;
    let largest = rows.f_abs()?.f_amax([1i64].as_slice(), false)?;
    // By a power of two, which is exact.
    let of_weights = largest.f_div_scalar(LARGEST_WEIGHT)?;
    let bias = bias.map(|bias| bias.f_to_kind(Kind::Double)).transpose()?;
    let scales = match &bias {
        Some(bias) => {
            // On a GPU, division by a number would be multiplication by its rounded inverse.
            let divisor = bias.f_full_like(input_scale * LARGEST_BIAS)?;
            of_weights.f_maximum(&bias.f_abs()?.f_div(&divisor)?)?
        }
        None => of_weights,
    };
    let scales = scales.f_to_kind(Kind::Float)?;
    let too_small = scales.f_lt(f64::from(f32::MIN_POSITIVE))?;
    let scales = scales.f_masked_fill(&too_small, 1.0)?;

    let steps = |value: &Tensor, scale: &Tensor, limit: f64| {
        let steps = value.f_div(scale)?.f_round()?;
        steps.f_clamp(-limit, limit)?.f_to_kind(Kind::Float)
    };
    let double = scales.f_to_kind(Kind::Double)?;
    let per_row = scales.f_view([-1, 1])?;
    let rounded = steps(&rows, &double.f_view([-1, 1])?, LARGEST_WEIGHT)?
        .f_mul(&per_row)?
        .f_reshape(weight.size())?;
    let rounded_bias = bias.map(|bias| {
        let scale = double.f_mul_scalar(input_scale)?;
        let in_f32 = scales.f_mul_scalar(input_scale)?;
        steps(&bias, &scale, LARGEST_BIAS)?.f_mul(&in_f32)
    });
    Ok((rounded, rounded_bias.transpose()?))
}

/// `rounded`, with the gradient of `value`: the straight-through estimator (Bengio et al. 2013). The difference is
/// exactly 0, and has the memory layout of `value`.
fn straight_through(value: &Tensor, rounded: &Tensor) -> Result<Tensor, TchError> {
    value.f_sub(&value.f_detach()?)?.f_add(rounded)
}
