//! What the values of a model's output look like.

use serde::Serialize;

use super::card::OutputKind;

/// The values of a model's output for some samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutputValues {
    /// What they look like.
    pub kind: ValueKind,
    /// The smallest value.
    pub smallest: f32,
    /// The largest value.
    pub largest: f32,
}

/// What the values of all samples look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// From 0 to 1, and each sample's add up to 1: values after a softmax.
    Probabilities,
    /// The logarithms of such values. A softmax does not change them, so they are logits.
    LogProbabilities,
    /// From 0 to 1, but they do not add up to 1: values after a sigmoid.
    ZeroToOne,
    /// Anything else.
    Logits,
}

/// The values of the output contradict the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutputContradiction {
    /// The card says logits.
    #[error("its outputs are from 0 to 1 and add up to 1: set output = \"probabilities\"")]
    AreProbabilities,
    /// The card says probabilities.
    #[error("its outputs are not from 0 to 1, or do not add up to 1: set output = \"logits\"")]
    AreNoProbabilities,
}

/// Probabilities below this one count as this one, so that their logarithms are finite. The class is
/// then as good as impossible: its logit is -18.4.
const SMALLEST_PROBABILITY: f32 = 1e-8;

/// How far the sum of a sample's probabilities may be from 1, for models that compute in half precision.
const SUM_TOLERANCE: f32 = 1e-2;

impl OutputValues {
    /// Looks at `values`, row-major [samples, classes], one row or more.
    pub fn of(values: &[f32], classes: usize) -> Self {
        let (smallest, largest) = values
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
        let is_share = |value: &f32| (0.0..=1.0).contains(value);
        let adds_up = |sum: f32| (sum - 1.0).abs() < SUM_TOLERANCE;
        let mut rows = values.chunks(classes);
        let kind = if values.iter().all(is_share) {
            if rows.all(|row| adds_up(row.iter().sum())) {
                ValueKind::Probabilities
            } else {
                ValueKind::ZeroToOne
            }
        } else if rows.all(|row| adds_up(row.iter().map(|value| value.exp()).sum())) {
            ValueKind::LogProbabilities
        } else {
            ValueKind::Logits
        };
        Self {
            kind,
            smallest,
            largest,
        }
    }

    /// Checks that the values are what the card says.
    ///
    /// # Errors
    /// [`OutputContradiction`] if logits look like probabilities, or probabilities do not.
    pub fn check(&self, output: OutputKind) -> Result<(), OutputContradiction> {
        match (output, self.kind) {
            (OutputKind::Logits, ValueKind::Probabilities) => {
                Err(OutputContradiction::AreProbabilities)
            }
            (OutputKind::Probabilities, kind) if kind != ValueKind::Probabilities => {
                Err(OutputContradiction::AreNoProbabilities)
            }
            _ => Ok(()),
        }
    }

    /// The card's output for these values.
    pub fn output(&self) -> OutputKind {
        match self.kind {
            ValueKind::Probabilities => OutputKind::Probabilities,
            _ => OutputKind::Logits,
        }
    }
}

impl OutputKind {
    /// Turns outputs of this kind into logits.
    pub fn make_logits(self, outputs: &mut [f32]) {
        if self == Self::Probabilities {
            for value in outputs {
                *value = value.max(SMALLEST_PROBABILITY).ln();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinguished_by_range_and_sum() {
        let half = 0.5_f32.ln();
        for (values, kind) in [
            ([0.25, 0.75, 1.0, 0.0], ValueKind::Probabilities),
            ([0.25, 0.75, 1.0, 0.9], ValueKind::ZeroToOne),
            ([half, half, half, half], ValueKind::LogProbabilities),
            ([half, half, half, -3.0], ValueKind::Logits),
            ([0.25, 0.75, 1.5, -0.5], ValueKind::Logits),
            ([f32::NAN, 0.75, 1.0, 0.0], ValueKind::Logits),
        ] {
            assert_eq!(OutputValues::of(&values, 2).kind, kind, "{values:?}");
        }
        let values = OutputValues::of(&[-2.0, 5.0], 2);
        assert_eq!((values.smallest, values.largest), (-2.0, 5.0));
    }

    #[test]
    fn a_contradiction_says_what_to_set() {
        let probabilities = OutputValues::of(&[0.25, 0.75], 2);
        assert_eq!(probabilities.output(), OutputKind::Probabilities);
        assert!(probabilities.check(OutputKind::Probabilities).is_ok());
        let error = probabilities.check(OutputKind::Logits).unwrap_err();
        assert!(error.to_string().contains("output = \"probabilities\""));
        let logits = OutputValues::of(&[2.0, 0.75], 2);
        assert!(logits.check(OutputKind::Logits).is_ok());
        let error = logits.check(OutputKind::Probabilities).unwrap_err();
        assert!(error.to_string().contains("output = \"logits\""));
    }
}
