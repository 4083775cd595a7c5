//! A convolution with what usually comes right after it.

use networks::{Activation, Conv};
use tch::{TchError, Tensor};

use crate::{Mode, Precision, activation::add_and_activate, batch_norm::BatchNorm, mode::Pass};

/// A convolution, the batch-norm right after it if there is one, and the activation after that. In evaluation the
/// batch-norm is folded into the weights, which saves a pass over the activations (5 to 8 % of a forward pass); in
/// training, batch-norm and activation are one operation where possible.
pub(crate) struct ConvBlock {
    pub conv: Conv,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub norm: Option<BatchNorm>,
    pub activation: Option<Activation>,
}

impl ConvBlock {
    /// Whether a batch-norm that comes next belongs to the block.
    pub(crate) fn takes_norm(&self) -> bool {
        self.norm.is_none() && self.activation.is_none()
    }

    /// Adds `carried`, if there is one, before the activation, which is that of the block or of the residual block that it
    /// ends.
    pub(crate) fn forward(
        &self,
        input: &Tensor,
        carried: Option<&Tensor>,
        activation: Option<Activation>,
        pass: Pass,
    ) -> Result<Tensor, TchError> {
        let convolve = |weight: &Tensor, bias: Option<&Tensor>| {
            convolve(&self.conv, input, weight, bias, pass.precision)
        };
        let bias = self.bias.as_ref();
        match (&self.norm, pass.mode) {
            (None, _) => add_and_activate(convolve(&self.weight, bias)?, carried, activation),
            (Some(norm), Mode::Train { .. }) => {
                norm.train(&convolve(&self.weight, bias)?, carried, activation)
            }
            (Some(norm), Mode::Evaluate) => {
                let (weight, bias) = norm.fold_into(&self.weight, bias)?;
                add_and_activate(convolve(&weight, Some(&bias))?, carried, activation)
            }
        }
    }
}

pub(crate) fn convolve(
    conv: &Conv,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    precision: Precision,
) -> Result<Tensor, TchError> {
    let kind = precision.kind();
    let pair = |size: usize| [size as i64; 2];
    let bias = bias.map(|bias| bias.f_to_kind(kind)).transpose()?;
    let mut input = input.f_to_kind(kind)?;
    let [top, left, bottom, right] = conv.padding.map(|size| size as i64);
    let mut padding = [top, left];
    if (top, left) != (bottom, right) {
        // The convolution pads opposite sides equally.
        input = input.f_constant_pad_nd([left, right, top, bottom])?;
        padding = [0, 0];
    }
    input.f_conv2d(
        &weight.f_to_kind(kind)?,
        bias.as_ref(),
        pair(conv.stride),
        padding,
        pair(1),
        conv.groups as i64,
    )
}
