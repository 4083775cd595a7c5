//! Dropout as a pure function of a seed.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tch::{TchError, Tensor};

use crate::to_device;

/// Zeroes each value with probability `rate` and scales the other values by 1 / (1 − rate)
/// (Srivastava et al. 2014). Each layer of a network has its own `stream` of random numbers.
///
/// # Errors
/// Errors of libtorch.
pub(crate) fn dropout(
    input: &Tensor,
    rate: f64,
    seed: u64,
    stream: u64,
) -> Result<Tensor, TchError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    let dropped = (rate * 2f64.powi(32)) as u32;
    let kept = (1.0 / (1.0 - rate)) as f32;
    let mask: Vec<f32> = (0..input.numel())
        .map(|_| {
            if random.next_u32() < dropped {
                0.0
            } else {
                kept
            }
        })
        .collect();
    let mask = Tensor::f_from_slice(&mask)?.f_view(input.size().as_slice())?;
    input.f_mul(&to_device(mask, input.device())?.f_to_kind(input.kind())?)
}
