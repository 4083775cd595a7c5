//! What an evaluation writes.

use std::collections::BTreeMap;

use datasets::Dataset;
use serde::{Deserialize, Serialize};

/// All models on the same test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Test images.
    pub samples: usize,
    /// By name.
    pub models: BTreeMap<String, ModelEvaluation>,
    /// Of every image.
    pub labels: Vec<u8>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelEvaluation {
    /// 0 to 1.
    pub accuracy: f64,
    /// Trainable ones.
    pub parameters: u64,
    /// For one image, with batch-norm folded.
    pub multiply_adds: u64,
    /// Of weights.safetensors or of the ONNX file.
    pub bytes: u64,
    /// Share of images to which model and teacher give the same class; absent without a teacher.
    pub agreement: Option<f64>,
    /// One image at a time, one thread.
    pub latency_us: LatencyMicroseconds,
    /// Class of every image.
    pub predictions: Vec<u8>,
}

/// How long one image takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyMicroseconds {
    /// Median.
    pub p50: f64,
}

impl Evaluation {
    pub(super) fn new(test: &Dataset) -> Self {
        Self {
            samples: test.len(),
            models: BTreeMap::new(),
            labels: test.labels().to_vec(),
        }
    }

    /// As JSON with a final newline.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Holds: map keys are strings, and floats that are not finite become null.
        let mut json = serde_json::to_vec(self).expect("an evaluation serializes");
        json.push(b'\n');
        json
    }
}
