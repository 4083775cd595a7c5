//! What is captured of the requests.

use std::path::PathBuf;

use common::config::{Problems, Validate};
use object_storage::{InvalidLocation, Location};
use serde::Deserialize;

/// What is captured of the requests, and where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureConfig {
    /// The share of the requests whose samples are captured; 0: none.
    pub share: f64,
    /// Folder of the captured samples, or URL of a prefix in a bucket.
    pub folder: PathBuf,
    /// Limit of all captured samples together, bytes.
    pub max_bytes: u64,
    /// Longest time for which samples wait for others of the same file, seconds.
    pub write_after_seconds: u64,
    /// Folder of the files that wait for their upload to a bucket.
    pub spool: PathBuf,
    /// Limit of the files that wait for their upload together, bytes.
    pub max_spool_bytes: u64,
}

impl CaptureConfig {
    /// Where the captured samples are kept.
    ///
    /// # Errors
    /// If `folder` is neither a folder nor the URL of a bucket.
    pub fn location(&self) -> Result<Location, InvalidLocation> {
        Location::parse(&self.folder)
    }
}

impl Validate for CaptureConfig {
    fn validate(&self, problems: &mut Problems) {
        let Self {
            share,
            folder,
            max_bytes,
            write_after_seconds,
            spool,
            max_spool_bytes,
        } = self;
        problems.require_within("capture.share", *share, 0.0..=1.0);
        if let Err(error) = self.location() {
            let shown = format!("\"{}\"", folder.display());
            problems.add("capture.folder", shown, &error.to_string());
        }
        let has_spool = !spool.as_os_str().is_empty();
        let shown = format!("\"{}\"", spool.display());
        problems.require(has_spool, "capture.spool", shown, "must be a folder");
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            problems.require_within(key, value, least..=most);
        };
        within("capture.max_bytes", *max_bytes, 1 << 16, 1 << 50);
        within(
            "capture.max_spool_bytes",
            *max_spool_bytes,
            1 << 16,
            1 << 50,
        );
        within(
            "capture.write_after_seconds",
            *write_after_seconds,
            1,
            86_400,
        );
    }
}
