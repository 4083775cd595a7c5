//! What a model answers for every sample, reduced from its logits batch by batch.

use soft_targets::logits::log_softmax;

use crate::classification::largest;

/// The answers of one model.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// The class with the largest logit.
    pub(super) predictions: Vec<u32>,
    /// The probability that the model gives this class, by the softmax of its logits.
    pub(super) confidences: Vec<f32>,
    /// KL(teacher ‖ model) in nats at a temperature of 1; empty without a teacher.
    pub(super) divergences: Vec<f32>,
}

/// The teacher's logits for every sample.
#[derive(Debug)]
pub(super) struct TeacherLogits {
    /// Row-major [samples, classes].
    pub(super) logits: Vec<f32>,
    pub(super) classes: usize,
}

impl TeacherLogits {
    /// What the teacher itself answers; it does not diverge from itself.
    pub(super) fn outputs(&self) -> Outputs {
        let mut outputs = Outputs::default();
        outputs.add(&self.logits, self.classes, Some(self));
        outputs
    }

    fn of_sample(&self, sample: usize) -> Option<&[f32]> {
        let begin = sample.checked_mul(self.classes)?;
        self.logits.get(begin..begin + self.classes)
    }
}

impl Outputs {
    /// Adds the logits of the next samples, row-major [samples, classes].
    pub(super) fn add(&mut self, logits: &[f32], classes: usize, teacher: Option<&TeacherLogits>) {
        for row in logits.chunks_exact(classes) {
            let teacher = teacher.and_then(|teacher| teacher.of_sample(self.predictions.len()));
            let prediction = largest(row);
            let log_probabilities = log_softmax(row);
            self.predictions.push(prediction);
            let confidence = log_probabilities[prediction as usize].exp();
            self.confidences.push(confidence as f32);
            if let Some(teacher) = teacher {
                let divergence = divergence(&log_softmax(teacher), &log_probabilities);
                self.divergences.push(divergence as f32);
            }
        }
    }
}

/// KL(teacher ‖ model) of two log-probabilities, in nats: `torch.nn.functional.kl_div` with `log_target`, summed over
/// the classes. Rounding never makes it negative.
fn divergence(teacher: &[f64], model: &[f64]) -> f64 {
    let terms = teacher.iter().zip(model).map(|(teacher, model)| {
        // A class that the teacher excludes adds nothing.
        match teacher.exp() {
            0.0 => 0.0,
            probability => probability * (teacher - model),
        }
    });
    // JSON has no infinity.
    terms.sum::<f64>().clamp(0.0, f32::MAX.into())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Written by `scripts/golden/evaluation.py`, with 50 digits.
    #[derive(Deserialize)]
    struct Golden {
        classes: usize,
        teacher: Vec<Vec<f32>>,
        student: Vec<Vec<f32>>,
        predictions: Vec<u32>,
        confidences: Vec<f64>,
        divergences: Vec<f64>,
    }

    #[test]
    fn probabilities_and_divergences_are_those_of_their_definitions() {
        let golden = include_str!("../../tests/golden/evaluation.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let teacher = TeacherLogits {
            logits: golden.teacher.concat(),
            classes: golden.classes,
        };
        let mut outputs = Outputs::default();
        let student = golden.student.concat();
        outputs.add(&student, golden.classes, Some(&teacher));
        assert_eq!(outputs.predictions, golden.predictions);
        for (found, expected) in [
            (outputs.confidences, golden.confidences),
            (outputs.divergences, golden.divergences),
        ] {
            assert_eq!(found.len(), golden.student.len());
            for (found, expected) in found.into_iter().zip(expected) {
                let difference = (f64::from(found) - expected).abs();
                assert!(difference <= 1e-6 * (1.0 + expected), "{found} {expected}");
            }
        }
    }

    #[test]
    fn probabilities_and_divergences_are_those_of_pytorch() {
        let teacher = TeacherLogits {
            logits: vec![2.0, 0.5, -1.0, 0.0, 0.0, 3.0],
            classes: 3,
        };
        let mut outputs = Outputs::default();
        // In two batches.
        outputs.add(&[1.0, 1.5, 0.0], 3, Some(&teacher));
        outputs.add(&[0.0, -1.0, 2.0], 3, Some(&teacher));
        assert_eq!(outputs.predictions, [1, 2]);
        // torch.softmax(student, 1).max(1) and
        // F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1)
        let expected = [0.546_549_4, 0.843_794_7, 0.434_013_4, 0.029_644_562];
        let found = [outputs.confidences, outputs.divergences].concat();
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_teacher_does_not_diverge_from_itself_and_without_one_nothing_is_known() {
        let teacher = TeacherLogits {
            logits: vec![2.0, f32::NEG_INFINITY, -1.0],
            classes: 3,
        };
        assert_eq!(teacher.outputs().divergences, [0.0]);
        let mut outputs = Outputs::default();
        outputs.add(&[1.0, 2.0], 2, None);
        assert_eq!(
            (outputs.predictions, outputs.divergences),
            (vec![1], vec![])
        );
    }
}
