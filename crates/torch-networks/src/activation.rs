//! Activations, and the sum of a residual block before one.

use networks::Activation;
use tch::{TchError, Tensor};

pub(crate) fn activate(activation: Activation, input: &Tensor) -> Result<Tensor, TchError> {
    match activation {
        Activation::Relu => input.f_relu(),
        Activation::Relu6 => input.f_relu6(),
        Activation::Silu => input.f_silu(),
        Activation::HardSwish => input.f_hardswish(),
        Activation::Sigmoid => input.f_sigmoid(),
    }
}

/// Overwrites the input where the gradient does not need it.
pub(crate) fn activate_in_place(
    activation: Activation,
    input: &Tensor,
) -> Result<Tensor, TchError> {
    match activation {
        Activation::Relu => input.shallow_clone().f_relu_(),
        Activation::Relu6 => input.shallow_clone().f_relu6_(),
        Activation::Silu | Activation::HardSwish | Activation::Sigmoid => {
            activate(activation, input)
        }
    }
}

/// Adds `carried`, if there is one, to the output of a block's layers, which this may overwrite.
pub(crate) fn add_and_activate(
    learned: Tensor,
    carried: Option<&Tensor>,
    activation: Option<Activation>,
) -> Result<Tensor, TchError> {
    let sum = match carried {
        Some(carried) => learned.f_add(&carried.f_to_kind(learned.kind())?)?,
        None => learned,
    };
    match activation {
        Some(activation) => activate_in_place(activation, &sum),
        None => Ok(sum),
    }
}
