//! How the service uses its model store.

use std::{path::PathBuf, time::Duration};

use artifacts::model_store::{Access, StoreOptions};
use common::config::{Problems, Validate};
use serde::Deserialize;

/// How the service uses its model store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelStoreConfig {
    /// Whether the service publishes, activates and deletes versions.
    pub access: Access,
    /// Time between two looks for changes that other services made, milliseconds.
    pub poll_interval_milliseconds: u64,
    /// How long a request to a bucket is repeated if it fails, or waits for an answer, seconds.
    pub patience_seconds: u64,
    /// Folder for copies of the models in a bucket.
    pub cache: PathBuf,
    /// Limit of the copies together, bytes.
    pub max_cache_bytes: u64,
}

impl ModelStoreConfig {
    /// Time between two looks for changes that other services made.
    pub fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_milliseconds)
    }

    /// The options of the store.
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            access: self.access,
            cache: self.cache.clone(),
            max_cache_bytes: self.max_cache_bytes,
            patience: Duration::from_secs(self.patience_seconds),
        }
    }
}

impl Validate for ModelStoreConfig {
    fn validate(&self, problems: &mut Problems) {
        let Self {
            access: _,
            poll_interval_milliseconds,
            patience_seconds,
            cache,
            max_cache_bytes,
        } = self;
        let cache_key = "model_store.cache";
        let has_cache = !cache.as_os_str().is_empty();
        let shown = format!("\"{}\"", cache.display());
        problems.require(has_cache, cache_key, shown, "must be a folder");
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            problems.require_within(&format!("model_store.{field}"), value, least..=most);
        };
        within(
            "poll_interval_milliseconds",
            *poll_interval_milliseconds,
            10,
            3_600_000,
        );
        within("patience_seconds", *patience_seconds, 1, 240);
        within("max_cache_bytes", *max_cache_bytes, 0, 1 << 50);
    }
}
