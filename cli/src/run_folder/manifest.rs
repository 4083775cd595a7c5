//! The keys of a run's `manifest.json` that commands show.

use artifacts::manifest::TeacherIdentity;
use serde::Deserialize;

/// The newest format that this build reads.
const FORMAT: u32 = 1;

/// Settings, inputs and results of a finished run.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunManifest {
    format_version: u32,
    /// Seed of every random choice.
    pub seed: u64,
    /// SHA-256 of the configuration.
    pub config_sha256: String,
    /// Compute threads.
    pub threads: usize,
    /// Precision, device, instruction set and libtorch version.
    pub numerics: String,
    /// Version of Retort.
    pub retort_version: String,
    /// Fingerprint of the training data.
    pub dataset: String,
    /// Number of training samples.
    pub train_samples: usize,
    /// Number of those that have a label, if not all have one.
    pub labelled_samples: Option<usize>,
    /// Number of validation samples.
    pub validation_samples: usize,
    /// The teacher whose soft targets were used.
    pub teacher: Option<TeacherIdentity>,
    /// Whether the same configuration gives the same bits.
    pub bit_reproducible: bool,
    /// SHA-256 of architecture and final weights.
    pub model_id: String,
    /// SHA-256 of the exported ONNX file.
    pub onnx_sha256: Option<String>,
    /// Version of the published model.
    pub published_version: Option<u64>,
    /// Wall-clock seconds of the whole run.
    pub seconds: f64,
}

impl RunManifest {
    /// # Errors
    /// The problem, if `text` is no manifest that this build reads.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if manifest.format_version > FORMAT {
            return Err(format!(
                "format_version {} is newer than {FORMAT}, the newest that this build reads",
                manifest.format_version
            ));
        }
        Ok(manifest)
    }
}
