//! Loss and accuracy, summed as tensors so that no step waits for a number.

use std::ops::AddAssign;

use tch::{Kind, TchError, Tensor};

/// Sums over the samples of some steps.
#[derive(Debug)]
pub(super) struct Meter {
    /// Scalar f64.
    loss: Tensor,
    /// Scalar i64.
    correct: Tensor,
    samples: u64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    loss: f64,
    correct: i64,
    pub(super) samples: u64,
}

impl Totals {
    /// Mean over samples.
    pub(super) fn loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// 0 to 1.
    pub(super) fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.samples += other.samples;
    }
}

impl Meter {
    pub(super) fn new() -> Result<Self, TchError> {
        let scalar = |kind| Tensor::f_zeros([] as [i64; 0], (kind, tch::Device::Cpu));
        Ok(Self {
            loss: scalar(Kind::Double)?,
            correct: scalar(Kind::Int64)?,
            samples: 0,
        })
    }

    /// Counts a batch with the mean loss `loss`.
    pub(super) fn add(
        &mut self,
        loss: &Tensor,
        logits: &Tensor,
        labels: &Tensor,
    ) -> Result<(), TchError> {
        let samples = labels.size()[0];
        tch::no_grad(|| {
            let sum = loss.f_detach()?.f_mul_scalar(samples)?;
            self.loss = self.loss.f_add(&sum)?;
            let hits = logits.f_argmax(-1, false)?.f_eq_tensor(labels)?;
            self.correct = self.correct.f_add(&hits.f_sum(Kind::Int64)?)?;
            Ok::<_, TchError>(())
        })?;
        self.samples += samples as u64;
        Ok(())
    }

    pub(super) fn read(&self) -> Result<Totals, TchError> {
        Ok(Totals {
            loss: self.loss.f_double_value(&[])?,
            correct: self.correct.f_int64_value(&[])?,
            samples: self.samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_samples_not_over_batches() {
        let mut meter = Meter::new().unwrap();
        let logits = Tensor::from_slice2(&[[2.0_f32, 1.0], [0.0, 1.0], [3.0, 0.0]]);
        let labels = Tensor::from_slice(&[0_i64, 0, 0]);
        meter.add(&Tensor::from(1.0_f32), &logits, &labels).unwrap();
        let (logits, labels) = (logits.narrow(0, 0, 1), labels.narrow(0, 0, 1));
        meter.add(&Tensor::from(5.0_f32), &logits, &labels).unwrap();
        let mut totals = meter.read().unwrap();
        assert_eq!(totals.samples, 4);
        assert_eq!(totals.accuracy(), 0.75);
        assert_eq!(totals.loss(), 2.0);
        totals += totals;
        assert_eq!(totals.samples, 8);
        assert_eq!(totals.loss(), 2.0);
    }
}
