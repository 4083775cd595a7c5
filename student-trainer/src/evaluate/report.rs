//! The report of an evaluation.

use std::collections::BTreeMap;

use datasets::{Source, Subset};
use serde::{Deserialize, Serialize};

use super::outputs::Outputs;
use crate::classification::{accuracy, agreement, labels};

/// The results of all models on the same test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of test images.
    pub samples: usize,
    /// The models, by name.
    pub models: BTreeMap<String, ModelEvaluation>,
    /// Label of every image; `null` if it has none.
    pub labels: Vec<Option<u32>>,
}

/// The results of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelEvaluation {
    /// Share of labelled images that are classified correctly, 0 to 1; absent if none is labelled.
    pub accuracy: Option<f64>,
    /// Number of trainable parameters; absent, as all figures below but the predictions, for a live teacher.
    pub parameters: Option<u64>,
    /// Multiply-adds for one image, with batch-norm folded.
    pub multiply_adds: Option<u64>,
    /// Size of weights.safetensors or of the ONNX file.
    pub bytes: Option<u64>,
    /// Share of images for which model and teacher predict the same class; absent without a teacher.
    pub agreement: Option<f64>,
    /// Time of one image on one thread.
    pub latency_us: Option<LatencyMicroseconds>,
    /// Class of every image.
    pub predictions: Vec<u32>,
    /// Probability that the model gives this class, 0 to 1.
    pub confidences: Vec<f32>,
    /// KL(teacher ‖ model) of every image in nats, at a temperature of 1; absent without a teacher.
    pub divergences: Option<Vec<f32>>,
}

/// Time of one image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyMicroseconds {
    /// Median.
    pub p50: f64,
}

impl ModelEvaluation {
    /// What follows from a model's answers. The figures of its network are unknown, as those of a live teacher.
    pub(super) fn of(outputs: Outputs, labels: &[Option<u32>], teacher: Option<&[u32]>) -> Self {
        let Outputs {
            predictions,
            confidences,
            divergences,
        } = outputs;
        Self {
            accuracy: accuracy(&predictions, labels),
            parameters: None,
            multiply_adds: None,
            bytes: None,
            agreement: teacher.map(|teacher| agreement(&predictions, teacher)),
            latency_us: None,
            divergences: teacher.map(|_| divergences),
            confidences,
            predictions,
        }
    }
}

impl Evaluation {
    pub(super) fn new(test: &Subset) -> Self {
        Self {
            samples: test.len(),
            models: BTreeMap::new(),
            labels: labels(test),
        }
    }

    /// Returns JSON with a final newline.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Holds: map keys are strings, and floats that are not finite become null.
        let mut json = serde_json::to_vec(self).expect("an evaluation serializes");
        json.push(b'\n');
        json
    }
}
