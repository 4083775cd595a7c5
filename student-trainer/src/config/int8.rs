//! Configuration of the exported model in int8.

use common::config::Problems;
use serde::{Deserialize, Serialize};

/// Post-training quantization of the exported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Int8Config {
    /// Number of training samples, without augmentation, whose activations give the scales.
    #[serde(default = "Int8Config::default_calibration_samples")]
    pub calibration_samples: usize,
}

/// Which of the exported files is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishedPrecision {
    /// `artifact/model.onnx`.
    #[default]
    F32,
    /// `artifact/int8/model.onnx`.
    Int8,
}

impl Int8Config {
    fn default_calibration_samples() -> usize {
        512
    }

    pub(super) fn validate(self, problems: &mut Problems) {
        let key = "export.int8.calibration_samples";
        problems.require_within(key, self.calibration_samples, 1..=100_000);
    }
}
