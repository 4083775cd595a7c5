//! What is counted of one batch, as tensors, so that no step waits for a number.

use datasets::IGNORED_LABEL;
use tch::{Kind, TchError, Tensor};

use super::loss::Loss;

/// Scalars on the device of the loss.
#[derive(Debug)]
pub(super) struct BatchSums {
    /// Mean loss, f32.
    pub(super) loss: Tensor,
    /// The weighted terms that add up to it, f32; empty if there is only one.
    pub(super) terms: Vec<Tensor>,
    /// Number of samples that were classified correctly, i64.
    pub(super) correct: Tensor,
    /// Number of samples without a label, i64.
    pub(super) unlabelled: Tensor,
    /// Number of samples.
    pub(super) samples: usize,
}

impl BatchSums {
    /// Of a batch with the mean loss `loss`.
    pub(super) fn of(loss: &Loss, logits: &Tensor, labels: &Tensor) -> Result<Self, TchError> {
        tch::no_grad(|| {
            let terms = loss.terms.iter().map(Tensor::f_detach);
            let hits = logits.f_argmax(-1, false)?.f_eq_tensor(labels)?;
            let unlabelled = labels.f_eq(IGNORED_LABEL)?;
            Ok(Self {
                loss: loss.total.f_detach()?,
                terms: terms.collect::<Result<_, _>>()?,
                correct: hits.f_sum(Kind::Int64)?,
                unlabelled: unlabelled.f_sum(Kind::Int64)?,
                samples: labels.size()[0] as usize,
            })
        })
    }

    /// Length of a row of a loss with `terms` terms.
    pub(super) fn row_length(terms: usize) -> usize {
        let parts = if terms > 1 { terms } else { 0 };
        3 + parts
    }

    /// The scalars as f32 [n]. Batches are small enough for their counts to be exact.
    pub(super) fn to_row(&self) -> Result<Tensor, TchError> {
        let scalars = [&self.loss].into_iter().chain(&self.terms);
        let scalars = scalars.chain([&self.correct, &self.unlabelled]);
        let scalars = scalars.map(|scalar| scalar.f_to_kind(Kind::Float)?.f_reshape([1]));
        Tensor::f_cat(&scalars.collect::<Result<Vec<_>, TchError>>()?, 0)
    }

    /// Reads [`Self::to_row`] of a batch of `samples` samples. The scalars share the row's memory.
    pub(super) fn from_row(row: &Tensor, samples: usize) -> Result<Self, TchError> {
        let length = row.size()[0];
        let terms = (1..length - 2).map(|index| row.f_select(0, index));
        let count = |index| row.f_select(0, index)?.f_to_kind(Kind::Int64);
        Ok(Self {
            loss: row.f_select(0, 0)?,
            terms: terms.collect::<Result<_, _>>()?,
            correct: count(length - 2)?,
            unlabelled: count(length - 1)?,
            samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_from_a_row_is_what_was_counted() {
        let logits = Tensor::from_slice2(&[[2.0_f32, 1.0], [0.0, 1.0], [3.0, 0.0]]);
        let labels = Tensor::from_slice(&[0_i64, 0, IGNORED_LABEL]);
        for terms in [vec![], vec![0.25_f32, 1.0 / 3.0]] {
            let loss = Loss {
                total: Tensor::from(0.1_f32),
                terms: terms.iter().map(|term| Tensor::from(*term)).collect(),
            };
            let counted = BatchSums::of(&loss, &logits, &labels).unwrap();
            let row = counted.to_row().unwrap();
            assert_eq!(row.size(), [BatchSums::row_length(terms.len()) as i64]);
            let read = BatchSums::from_row(&row, counted.samples).unwrap();
            let values = |sums: &BatchSums| {
                let terms = sums.terms.iter().map(|term| term.double_value(&[]));
                let loss = sums.loss.double_value(&[]);
                let counts = [&sums.correct, &sums.unlabelled].map(|it| it.int64_value(&[]));
                (loss, terms.collect::<Vec<_>>(), counts, sums.samples)
            };
            assert_eq!(values(&read), values(&counted));
            assert_eq!(values(&read).2, [1, 1]);
        }
    }
}
