//! Sums loss and accuracy as tensors, so that no step waits for a number.

use std::ops::AddAssign;

use common::config::is_default;
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use super::batch_sums::BatchSums;

/// Sums over the samples of some steps, on the device of the losses from the first step on: libtorch adds a tensor
/// on a GPU to a scalar on the CPU.
#[derive(Debug)]
pub(super) struct Meter {
    /// Scalar f64.
    loss: Tensor,
    /// Scalars f64: see [`Totals`].
    terms: Vec<Tensor>,
    /// Scalar i64.
    correct: Tensor,
    /// Scalar i64.
    unlabelled: Tensor,
    samples: u64,
    /// Mean loss of each step.
    losses: Vec<Tensor>,
}

/// Sums over training samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Sum of the losses.
    loss: f64,
    /// Sums of the weighted terms of the losses, in the order of the configuration. Empty if the loss has a single
    /// term, or if an older version, which did not add them up, counted some of the samples.
    #[serde(default, skip_serializing_if = "is_default")]
    terms: Vec<f64>,
    /// Number of samples that were classified correctly.
    correct: i64,
    /// Number of samples.
    pub(super) samples: u64,
    /// Number of samples without a label, whose class is not known.
    #[serde(default, skip_serializing_if = "is_default")]
    unlabelled: i64,
}

impl Totals {
    /// Mean loss of a sample.
    pub fn loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// Mean of each weighted term of the loss; empty if they are not known.
    pub fn terms(&self) -> impl Iterator<Item = f64> {
        self.terms.iter().map(|sum| sum / self.samples as f64)
    }

    /// Share of labelled samples that were classified correctly, 0 to 1; `None` if none has a label.
    pub fn accuracy(&self) -> Option<f64> {
        let labelled = self.samples as i64 - self.unlabelled;
        (labelled > 0).then(|| self.correct as f64 / labelled as f64)
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        if self.samples == 0 {
            self.terms = other.terms;
        } else if self.terms.len() == other.terms.len() {
            for (sum, other) in self.terms.iter_mut().zip(other.terms) {
                *sum += other;
            }
        } else {
            self.terms.clear();
        }
        self.loss += other.loss;
        self.correct += other.correct;
        self.samples += other.samples;
        self.unlabelled += other.unlabelled;
    }
}

impl Meter {
    /// Continues from earlier sums.
    pub(super) fn from(totals: Totals) -> Result<Self, TchError> {
        let terms = totals.terms.into_iter();
        Ok(Self {
            loss: scalar(Kind::Double)?.f_add_scalar(totals.loss)?,
            terms: terms
                .map(|sum| scalar(Kind::Double)?.f_add_scalar(sum))
                .collect::<Result<_, _>>()?,
            correct: scalar(Kind::Int64)?.f_add_scalar(totals.correct)?,
            unlabelled: scalar(Kind::Int64)?.f_add_scalar(totals.unlabelled)?,
            samples: totals.samples,
            losses: Vec::new(),
        })
    }

    /// Adds a batch.
    pub(super) fn add(&mut self, batch: &BatchSums) -> Result<(), TchError> {
        let samples = batch.samples as i64;
        tch::no_grad(|| {
            if self.samples == 0 {
                let zeros = batch.terms.iter().map(|_| scalar(Kind::Double));
                self.terms = zeros.collect::<Result<_, _>>()?;
            }
            for (sum, term) in self.terms.iter_mut().zip(&batch.terms) {
                *sum = sum.f_add(&term.f_mul_scalar(samples)?)?;
            }
            let sum = batch.loss.f_mul_scalar(samples)?;
            self.loss = self.loss.f_add(&sum)?;
            self.correct = self.correct.f_add(&batch.correct)?;
            self.unlabelled = self.unlabelled.f_add(&batch.unlabelled)?;
            self.losses.push(batch.loss.shallow_clone());
            Ok::<_, TchError>(())
        })?;
        self.samples += batch.samples as u64;
        Ok(())
    }

    /// The first loss that is not finite, as (number of steps before it, loss).
    pub(super) fn first_not_finite(&self) -> Result<Option<(u64, f64)>, TchError> {
        for (step, loss) in (0..).zip(&self.losses) {
            let loss = loss.f_double_value(&[])?;
            if !loss.is_finite() {
                return Ok(Some((step, loss)));
            }
        }
        Ok(None)
    }

    pub(super) fn read(&self) -> Result<Totals, TchError> {
        Ok(Totals {
            loss: self.loss.f_double_value(&[])?,
            terms: self
                .terms
                .iter()
                .map(|sum| sum.f_double_value(&[]))
                .collect::<Result<_, _>>()?,
            correct: self.correct.f_int64_value(&[])?,
            samples: self.samples,
            unlabelled: self.unlabelled.f_int64_value(&[])?,
        })
    }
}

/// Zero on the CPU.
fn scalar(kind: Kind) -> Result<Tensor, TchError> {
    Tensor::f_zeros([] as [i64; 0], (kind, tch::Device::Cpu))
}

#[cfg(test)]
mod tests {
    use datasets::IGNORED_LABEL;

    use super::{super::loss::Loss, *};

    /// A loss of one term.
    fn single(value: f32) -> Loss {
        Loss {
            total: Tensor::from(value),
            terms: Vec::new(),
        }
    }

    /// A loss of two terms.
    fn sum(terms: [f32; 2]) -> Loss {
        Loss {
            total: Tensor::from(terms[0] + terms[1]),
            terms: terms.map(Tensor::from).into(),
        }
    }

    fn add(meter: &mut Meter, loss: &Loss, logits: &Tensor, labels: &Tensor) {
        let batch = BatchSums::of(loss, logits, labels).unwrap();
        meter.add(&batch).unwrap();
    }

    #[test]
    fn means_are_over_samples_not_over_batches() {
        let mut meter = Meter::from(Totals::default()).unwrap();
        let logits = Tensor::from_slice2(&[[2.0_f32, 1.0], [0.0, 1.0], [3.0, 0.0]]);
        let labels = Tensor::from_slice(&[0_i64, 0, 0]);
        add(&mut meter, &single(1.0), &logits, &labels);
        let (logits, labels) = (logits.narrow(0, 0, 1), labels.narrow(0, 0, 1));
        add(&mut meter, &single(5.0), &logits, &labels);
        let mut totals = meter.read().unwrap();
        assert_eq!(totals.samples, 4);
        assert_eq!(totals.accuracy(), Some(0.75));
        assert_eq!(totals.loss(), 2.0);
        totals += totals.clone();
        assert_eq!(totals.samples, 8);
        assert_eq!(totals.loss(), 2.0);
    }

    #[test]
    fn samples_without_a_label_do_not_count_for_the_accuracy() {
        let mut meter = Meter::from(Totals::default()).unwrap();
        let logits = Tensor::from_slice2(&[[2.0_f32, 1.0], [2.0, 1.0], [2.0, 1.0]]);
        let mut count = |labels: [i64; 3]| {
            let labels = Tensor::from_slice(&labels);
            add(&mut meter, &single(1.0), &logits, &labels);
            meter.read().unwrap()
        };
        assert_eq!(count([IGNORED_LABEL; 3]).accuracy(), None);
        let totals = count([0, 1, IGNORED_LABEL]);
        assert_eq!(totals.accuracy(), Some(0.5));
        // Checkpoints of older versions do not have the number.
        let older = serde_json::json!({"loss": 6.0, "correct": 1, "samples": 4});
        let older: Totals = serde_json::from_value(older).unwrap();
        assert_eq!(older.accuracy(), Some(0.25));
    }

    #[test]
    fn a_meter_continues_from_totals_with_the_same_bits() {
        let logits = Tensor::from_slice2(&[[2.0_f32, 1.0], [0.0, 1.0], [3.0, 0.0]]);
        let labels = Tensor::from_slice(&[0_i64, 0, 0]);
        let losses: Vec<_> = (1..50).map(|step| sum([1.0 / step as f32, 0.1])).collect();
        let mut whole = Meter::from(Totals::default()).unwrap();
        let mut resumed = Meter::from(Totals::default()).unwrap();
        for loss in &losses {
            add(&mut whole, loss, &logits, &labels);
            let json = serde_json::to_string(&resumed.read().unwrap()).unwrap();
            resumed = Meter::from(serde_json::from_str(&json).unwrap()).unwrap();
            add(&mut resumed, loss, &logits, &labels);
        }
        assert_eq!(resumed.read().unwrap(), whole.read().unwrap());
    }

    #[test]
    fn terms_are_summed_on_their_own_unless_an_older_version_counted_some_of_the_samples() {
        let logits = Tensor::from_slice2(&[[2.0_f32, 1.0], [0.0, 1.0]]);
        let labels = Tensor::from_slice(&[0_i64, 0]);
        let counted = |before: &Totals| {
            let mut meter = Meter::from(before.clone()).unwrap();
            for terms in [[1.0, 0.5], [3.0, 1.5]] {
                add(&mut meter, &sum(terms), &logits, &labels);
            }
            meter.read().unwrap()
        };
        let mut totals = counted(&Totals::default());
        assert!(totals.terms().eq([2.0, 1.0]), "{totals:?}");
        totals += counted(&Totals::default());
        assert!(totals.terms().eq([2.0, 1.0]), "{totals:?}");
        let mut epoch = Totals::default();
        epoch += totals.clone();
        assert_eq!(epoch, totals);

        let older = serde_json::json!({"loss": 6.0, "correct": 1, "samples": 4});
        let older: Totals = serde_json::from_value(older).unwrap();
        assert_eq!(counted(&older).terms().count(), 0);
        totals += older;
        assert_eq!(totals.terms().count(), 0);
    }

    #[test]
    fn the_first_loss_that_is_not_finite_is_found() {
        let logits = Tensor::from_slice2(&[[2.0_f32, 1.0]]);
        let labels = Tensor::from_slice(&[0_i64]);
        let mut meter = Meter::from(Totals::default()).unwrap();
        for loss in [1.0, 2.0] {
            add(&mut meter, &single(loss), &logits, &labels);
        }
        assert_eq!(meter.first_not_finite().unwrap(), None);
        for loss in [f32::INFINITY, f32::NAN] {
            add(&mut meter, &single(loss), &logits, &labels);
        }
        assert!(!meter.read().unwrap().loss().is_finite());
        assert_eq!(meter.first_not_finite().unwrap(), Some((2, f64::INFINITY)));
    }
}
