//! Limits on published models.

use std::time::Duration;

use common::config::{Problems, Validate};
use model_signing::MAX_SIGNATURE_BYTES;
use serde::Deserialize;

/// Limits on published models.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishConfig {
    /// Largest ONNX file in bytes.
    pub max_model_bytes: usize,
    /// Largest manifest in bytes.
    pub max_manifest_bytes: usize,
    /// Most memory for the tensors between a model's operators in a full batch, bytes.
    pub max_activation_bytes: u64,
    /// Longest time for a whole upload to arrive, seconds.
    pub upload_timeout_seconds: u64,
    /// Longest time to load a model, warm it up and compute its golden batch, seconds.
    pub load_timeout_seconds: u64,
}

/// Room in a message for the fields besides the manifest and the signature.
const MESSAGE_FIELDS: usize = 64 << 10;

impl PublishConfig {
    /// Largest message of an upload in bytes: the first one holds the whole manifest and the signature.
    pub fn max_message_bytes(&self) -> usize {
        self.max_manifest_bytes + MAX_SIGNATURE_BYTES + MESSAGE_FIELDS
    }

    /// Longest time for a whole upload to arrive.
    pub fn upload_timeout(&self) -> Duration {
        Duration::from_secs(self.upload_timeout_seconds)
    }

    /// Longest time to load a model, warm it up and compute its golden batch.
    pub fn load_timeout(&self) -> Duration {
        Duration::from_secs(self.load_timeout_seconds)
    }
}

impl Validate for PublishConfig {
    fn validate(&self, problems: &mut Problems) {
        let Self {
            max_model_bytes,
            max_manifest_bytes,
            max_activation_bytes,
            upload_timeout_seconds,
            load_timeout_seconds,
        } = *self;
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            problems.require_within(&format!("publish.{field}"), value, least..=most);
        };
        within("max_model_bytes", max_model_bytes as u64, 1, 1 << 30);
        within("max_manifest_bytes", max_manifest_bytes as u64, 1, 1 << 28);
        within(
            "max_activation_bytes",
            max_activation_bytes,
            1 << 20,
            1 << 40,
        );
        within("upload_timeout_seconds", upload_timeout_seconds, 1, 86_400);
        within("load_timeout_seconds", load_timeout_seconds, 1, 3600);
    }
}
