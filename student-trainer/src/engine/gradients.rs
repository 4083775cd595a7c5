//! The gradients of one optimizer step: from several batches, and of limited length.

use std::ops::Range;

use tch::{TchError, Tensor};

/// How the batches of an epoch are divided among its optimizer steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accumulation {
    /// Batches per step; the last step of an epoch may have fewer.
    pub batches: usize,
    /// Samples per batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Samples in an epoch.
    pub samples: usize,
}

impl Accumulation {
    /// The batches of step `step` of an epoch: positions in the epoch, from 0.
    pub(super) fn batches_of(&self, step: u64) -> Range<usize> {
        let first = self.first_batch(step);
        first..(first + self.batches).min(self.samples.div_ceil(self.batch_size))
    }

    /// Number of samples in these batches.
    pub(super) fn samples_of(&self, step: u64) -> usize {
        let Range { start, end } = self.batches_of(step);
        (end * self.batch_size).min(self.samples) - start * self.batch_size
    }

    /// Position in the epoch of the first batch of step `step`.
    pub(super) fn first_batch(&self, step: u64) -> usize {
        step as usize * self.batches
    }
}

/// Scales `gradients` down so that the norm of all together is at most `max_norm`, as
/// `torch.nn.utils.clip_grad_norm_`.
pub(super) fn clip(gradients: &[Tensor], max_norm: f64) -> Result<Vec<Tensor>, TchError> {
    // Stays a tensor: reading it would wait for the device.
    let factor = norm(gradients)?
        .f_add_scalar(1e-6)?
        .f_reciprocal()?
        .f_mul_scalar_(max_norm)?
        .f_clamp_max_(1.0)?;
    let clipped = gradients.iter().map(|gradient| gradient.f_mul(&factor));
    clipped.collect()
}

/// The norm of all `gradients` together, as a scalar tensor.
pub(super) fn norm(gradients: &[Tensor]) -> Result<Tensor, TchError> {
    let norms = gradients.iter().map(Tensor::f_norm);
    Tensor::f_stack(&norms.collect::<Result<Vec<_>, _>>()?, 0)?.f_norm()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        max_norm: f64,
        gradients: Vec<Vec<f32>>,
        norm: f64,
        clipped: Vec<Vec<f32>>,
    }

    #[test]
    fn clipped_gradients_and_norms_are_pytorchs() {
        let cases: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/golden/gradients.json")).unwrap();
        assert!(cases.len() >= 10);
        assert!(cases.iter().any(|case| case.norm > case.max_norm));
        assert!(cases.iter().any(|case| case.norm < case.max_norm));
        for case in cases {
            let gradients = case
                .gradients
                .iter()
                .map(|values| Tensor::from_slice(values));
            let gradients: Vec<_> = gradients.collect();
            let clipped = clip(&gradients, case.max_norm).unwrap();
            let norm = norm(&gradients).unwrap().double_value(&[]);
            assert!(
                (norm - case.norm).abs() <= 1e-6 * case.norm,
                "{norm} {}",
                case.norm
            );
            for (found, expected) in clipped.iter().zip(&case.clipped) {
                let found = Vec::<f32>::try_from(found).unwrap();
                for (found, expected) in found.iter().zip(expected) {
                    let close = (found - expected).abs() <= 1e-7 + 1e-6 * expected.abs();
                    assert!(close, "{}: {found} {expected}", case.max_norm);
                }
            }
        }
    }

    #[test]
    fn the_last_step_of_an_epoch_has_the_batches_that_are_left() {
        let accumulation = |batches, batch_size, samples| Accumulation {
            batches,
            batch_size,
            samples,
        };
        for (accumulation, expected) in [
            (
                accumulation(1, 4, 10),
                vec![(0..1, 4), (1..2, 4), (2..3, 2)],
            ),
            (accumulation(2, 4, 10), vec![(0..2, 8), (2..3, 2)]),
            (accumulation(3, 4, 10), vec![(0..3, 10)]),
            (accumulation(9, 4, 10), vec![(0..3, 10)]),
            (accumulation(2, 5, 20), vec![(0..2, 10), (2..4, 10)]),
        ] {
            for (step, (batches, samples)) in (0..).zip(expected) {
                assert_eq!(accumulation.batches_of(step), batches, "{accumulation:?}");
                assert_eq!(accumulation.samples_of(step), samples, "{accumulation:?}");
            }
        }
    }
}
