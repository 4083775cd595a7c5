//! The content of `active.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;

const FORMAT_VERSION: u32 = 1;

/// The content of `active.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveVersion {
    format_version: u32,
    /// The version that serves.
    pub version: u64,
    /// The newest version that ever served, also as a canary. A newer one in the store was committed by a publish that
    /// was interrupted before the activation.
    pub newest_served: u64,
    /// In a bucket: the model was deleted when this was its newest version. This version and older ones do not
    /// exist any more, even where their files are still there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) newest_deleted: u64,
}

impl ActiveVersion {
    /// The content after `before` once `version` is activated.
    pub(super) fn activated(before: Option<Self>, version: u64) -> Self {
        let before = before.unwrap_or(Self::NONE);
        Self {
            version,
            newest_served: before.newest_served.max(version),
            ..before
        }
    }

    /// The content after `before` once the model is deleted with all versions up to `newest`.
    pub(super) fn deleted(before: Option<Self>, newest: u64) -> Self {
        let before = before.unwrap_or(Self::NONE);
        Self {
            newest_served: before.newest_served.max(newest),
            newest_deleted: newest,
            ..before
        }
    }

    /// The content once `version` counts as one that served although it is not active: no later version gets its
    /// number, and no restart takes it for an interrupted publish.
    pub(super) fn noting(self, version: u64) -> Self {
        Self {
            newest_served: self.newest_served.max(version),
            ..self
        }
    }

    /// Whether the active version exists.
    pub(super) fn exists(&self) -> bool {
        self.version > self.newest_deleted
    }

    /// Reads the content; `path` is for the error.
    pub(super) fn from_json(path: &Path, json: &[u8]) -> Result<Self, StoreError> {
        let problem = match serde_json::from_slice::<Self>(json) {
            Ok(active) if active.format_version <= FORMAT_VERSION => return Ok(active),
            Ok(active) => {
                let found = active.format_version;
                format!("format_version {found} is newer than this build reads")
            }
            Err(error) => error.to_string(),
        };
        let path = path.to_owned();
        Err(StoreError::Corrupt { path, problem })
    }

    pub(super) fn to_json(self) -> Vec<u8> {
        // Cannot fail: the fields are integers.
        serde_json::to_vec(&self).expect("active.json serializes")
    }

    const NONE: Self = Self {
        format_version: FORMAT_VERSION,
        version: 0,
        newest_served: 0,
        newest_deleted: 0,
    };
}

/// Serde passes a reference.
fn is_zero(number: &u64) -> bool {
    *number == 0
}
