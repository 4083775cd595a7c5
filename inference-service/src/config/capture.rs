//! What is captured of the requests.

use std::path::PathBuf;

use common::config::{Problems, Validate};
use serde::Deserialize;

/// What is captured of the requests, and where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureConfig {
    /// The share of the requests whose samples are captured; 0: none.
    pub share: f64,
    /// The folder of the captured samples.
    pub folder: PathBuf,
    /// Limit of all captured samples together, bytes.
    pub max_bytes: u64,
    /// Longest time for which samples wait for others of the same file, seconds.
    pub write_after_seconds: u64,
}

impl Validate for CaptureConfig {
    fn validate(&self, problems: &mut Problems) {
        let Self {
            share,
            folder,
            max_bytes,
            write_after_seconds,
        } = self;
        problems.require_within("capture.share", *share, 0.0..=1.0);
        let has_folder = !folder.as_os_str().is_empty();
        let shown = format!("\"{}\"", folder.display());
        problems.require(has_folder, "capture.folder", shown, "must be a folder");
        problems.require_within("capture.max_bytes", *max_bytes, 1 << 16..=1 << 50);
        let key = "capture.write_after_seconds";
        problems.require_within(key, *write_after_seconds, 1..=86_400);
    }
}
