//! How well logits fit labels.

use serde::Serialize;
use soft_targets::logits::argmax;

/// Logits of samples, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logits {
    values: Vec<f32>,
    classes: usize,
}

/// How well a model's confidence fits its accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error.
    pub error: f64,
    /// The temperature with the smallest loss. Above 1, the model is too sure of itself.
    pub temperature: f64,
    /// Expected calibration error at this temperature.
    pub error_at_temperature: f64,
    /// Mean loss at this temperature.
    pub loss_at_temperature: f64,
}

/// Equally wide intervals of confidence, as in Guo et al., On Calibration of Modern Neural Networks, 2017.
const BINS: usize = 15;

/// The temperatures that are tried lie between these.
const TEMPERATURES: [f64; 2] = [0.01, 100.0];

impl Logits {
    /// `values` are row-major [samples, classes].
    pub(super) fn new(values: Vec<f32>, classes: usize) -> Self {
        Self { values, classes }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.classes)
    }

    /// The logits of the samples at `rows`.
    pub(super) fn of(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|row| {
            let first = row * self.classes;
            &self.values[first..first + self.classes]
        });
        Self {
            values: values.copied().collect(),
            classes: self.classes,
        }
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        self.classes
    }

    /// The class with the largest logit of each sample; of equal ones the first.
    pub(super) fn predictions(&self) -> Vec<usize> {
        self.rows().map(argmax).collect()
    }

    /// Share of the samples whose label is among the `k` classes with the largest logits.
    pub(super) fn top(&self, k: usize, labels: &[usize]) -> f64 {
        let is_among = |(row, label): (&[f32], &usize)| {
            let own = row[*label];
            let larger = row
                .iter()
                .enumerate()
                .filter(|(class, value)| **value > own || (**value == own && class < label));
            larger.count() < k
        };
        let right = self.rows().zip(labels).filter(|pair| is_among(*pair));
        right.count() as f64 / labels.len().max(1) as f64
    }

    /// Mean cross-entropy at `temperature`.
    pub(super) fn loss(&self, labels: &[usize], temperature: f64) -> f64 {
        let losses = self.rows().zip(labels).map(|(row, label)| {
            let own = f64::from(row[*label]) / temperature;
            log_sum_exp(row, temperature) - own
        });
        losses.sum::<f64>() / labels.len().max(1) as f64
    }

    /// Calibration error, and the temperature that calibrates best (temperature scaling of Guo et al.).
    pub(super) fn calibration(&self, labels: &[usize]) -> Calibration {
        let temperature = minimum(TEMPERATURES, |temperature| self.loss(labels, temperature));
        Calibration {
            error: self.calibration_error(labels, 1.0),
            temperature,
            error_at_temperature: self.calibration_error(labels, temperature),
            loss_at_temperature: self.loss(labels, temperature),
        }
    }

    /// The probability of each sample's most likely class.
    pub(super) fn confidences(&self, temperature: f64) -> Vec<f64> {
        let confidence = |row: &[f32]| {
            let top = f64::from(row[argmax(row)]) / temperature;
            (top - log_sum_exp(row, temperature)).exp()
        };
        self.rows().map(confidence).collect()
    }

    fn calibration_error(&self, labels: &[usize], temperature: f64) -> f64 {
        #[derive(Clone, Copy, Default)]
        struct Bin {
            confidence: f64,
            right: f64,
        }
        let mut bins = [Bin::default(); BINS];
        let outcomes = self.predictions().into_iter().zip(labels);
        for (confidence, (prediction, label)) in
            self.confidences(temperature).into_iter().zip(outcomes)
        {
            // Intervals are open below and closed above, as in the paper.
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            bins[bin].confidence += confidence;
            bins[bin].right += f64::from(u8::from(prediction == *label));
        }
        let gaps = bins.iter().map(|bin| (bin.confidence - bin.right).abs());
        gaps.sum::<f64>() / labels.len().max(1) as f64
    }
}

fn log_sum_exp(row: &[f32], temperature: f64) -> f64 {
    let scaled = || row.iter().map(|value| f64::from(*value) / temperature);
    let top = scaled().fold(f64::NEG_INFINITY, f64::max);
    top + scaled().map(|value| (value - top).exp()).sum::<f64>().ln()
}

/// Where `function`, which has one minimum over the logarithm of its argument, is smallest: golden-section search.
fn minimum([low, high]: [f64; 2], function: impl Fn(f64) -> f64) -> f64 {
    const STEPS: usize = 40;
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (low.ln(), high.ln());
    for _ in 0..STEPS {
        let width = (high - low) * ratio;
        let (left, right) = (high - width, low + width);
        if function(left.exp()) <= function(right.exp()) {
            high = right;
        } else {
            low = left;
        }
    }
    f64::midpoint(low, high).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Logits {
        let values = vec![2.0, 1.0, 0.0, 0.0, 3.0, 1.0, 1.0, 0.5, 0.75, 0.0, 0.0, 4.0];
        Logits::new(values, 3)
    }

    const LABELS: [usize; 4] = [0, 1, 2, 0];

    #[test]
    fn accuracy_and_loss_are_those_of_the_formulas() {
        let logits = logits();
        assert_eq!(logits.predictions(), [0, 1, 0, 2]);
        assert_eq!((logits.top(1, &LABELS), logits.top(2, &LABELS)), (0.5, 1.0));
        // log(sum(exp(row / T))) - row[label] / T, averaged, in Python.
        for (temperature, expected) in [(1.0, 1.433_191_592_038_634), (2.0, 1.121_999_269_138_643)]
        {
            let found = logits.loss(&LABELS, temperature);
            assert!((found - expected).abs() < 1e-9, "{found}");
        }
    }

    #[test]
    fn the_calibration_error_is_the_weighted_gap_of_the_intervals() {
        // Confidence 0.8 in every sample, right in half of them.
        let row = [0.8_f32.ln(), 0.2_f32.ln()];
        let logits = Logits::new([row; 10].concat(), 2);
        let labels = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1];
        let found = logits.calibration(&labels);
        assert!((found.error - 0.3).abs() < 1e-6, "{found:?}");
        // Only a confidence of one half fits, which no temperature reaches.
        assert!(
            found.temperature > 50.0 && found.error_at_temperature < 0.02,
            "{found:?}"
        );
    }

    #[test]
    fn the_temperature_undoes_a_scaling_of_the_logits() {
        // Of ten samples with odds of 4, eight are right: calibrated. Three times the logits need a temperature of 3.
        let row = [3.0 * 4.0_f32.ln(), 0.0];
        let logits = Logits::new([row; 10].concat(), 2);
        let found = logits.calibration(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        assert!((found.temperature - 3.0).abs() < 1e-3, "{found:?}");
        assert!(
            found.error > 0.15 && found.error_at_temperature < 1e-3,
            "{found:?}"
        );
        assert!(found.loss_at_temperature < logits.loss(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 1], 1.0));
    }
}
