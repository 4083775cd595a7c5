//! The report of an evaluation.

use std::collections::BTreeMap;

use datasets::{Source, Subset};
use serde::{Deserialize, Serialize};

use crate::classification::labels;

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
    /// Share of images that are classified correctly; 0 to 1.
    pub accuracy: f64,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Multiply-adds for one image, with batch-norm folded.
    pub multiply_adds: u64,
    /// Size of weights.safetensors or of the ONNX file.
    pub bytes: u64,
    /// Share of images for which model and teacher predict the same class; absent without a teacher.
    pub agreement: Option<f64>,
    /// Time of one image on one thread.
    pub latency_us: LatencyMicroseconds,
    /// Class of every image.
    pub predictions: Vec<u32>,
}

/// Time of one image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyMicroseconds {
    /// Median.
    pub p50: f64,
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
