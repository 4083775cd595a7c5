//! `recording.json`: what a recording is.

use std::path::Path;

use common::digest::Sha256;
use serde::{Deserialize, Serialize};

use crate::{
    error::StoreError,
    identity::{RecordedImages, RecordingIdentity},
    limits::{FORMAT_VERSION, MAX_SHARD_BYTES, MAX_SHARDS},
};

/// Name of the file in the recording's folder.
pub(crate) const DESCRIPTION: &str = "recording.json";

/// `recording.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    format_version: u32,
    /// Images per shard; the last shard of a view may hold fewer.
    pub samples_per_shard: u32,
    pub identity: RecordingIdentity,
    /// The teacher's class names, in the order of the recorded logits; absent in recordings that are older
    /// than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// From [`class_names_digest`]. The identity does not cover the names, so without it a damaged name
    /// would pass as another class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_names_sha256: Option<Sha256>,
}

/// The SHA-256 of the names as a JSON array.
fn class_names_digest(names: &[String]) -> Sha256 {
    // Holds: strings serialize.
    Sha256::of(&serde_json::to_vec(names).expect("names serialize"))
}

impl Description {
    /// A new recording of `identity`. `class_names` is empty if the names are not known.
    ///
    /// # Errors
    /// A message that says why such a recording could not be opened.
    pub fn new(
        identity: &RecordingIdentity,
        samples_per_shard: u32,
        class_names: &[String],
    ) -> Result<Self, String> {
        let class_names = Some(class_names.to_vec()).filter(|names| !names.is_empty());
        let description = Self {
            format_version: FORMAT_VERSION,
            samples_per_shard,
            identity: identity.clone(),
            class_names_sha256: class_names.as_deref().map(class_names_digest),
            class_names,
        };
        description.check().map(|()| description)
    }

    /// Reads the content of `file`; checks its version first. The inner error says what is wrong with it.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`], [`StoreError::OlderFormat`].
    pub fn parse(bytes: &[u8], file: &Path) -> Result<Result<Self, String>, StoreError> {
        check_format(bytes, file)?;
        let description = serde_json::from_slice::<Self>(bytes);
        let check = |description: Self| description.check().map(|()| description);
        Ok(description
            .map_err(|error| error.to_string())
            .and_then(check))
    }

    pub fn to_json(&self) -> Vec<u8> {
        // Holds: every key is a string.
        let mut json = serde_json::to_vec_pretty(self).expect("a description serializes");
        json.push(b'\n');
        json
    }

    /// Checks that the sizes computed from it do not overflow, that it has a reasonable number of shards,
    /// and that its class names have the stored digest.
    ///
    /// # Errors
    /// A message that says what is wrong.
    fn check(&self) -> Result<(), String> {
        let RecordedImages {
            samples, classes, ..
        } = self.identity.images;
        let row = self.identity.encoding.sample_bytes(classes as usize);
        let shard = u64::from(self.samples_per_shard.min(samples)).checked_mul(row.total() as u64);
        let positive = self.samples_per_shard > 0 && samples > 0 && classes > 0;
        if !positive || shard.is_none_or(|bytes| bytes > MAX_SHARD_BYTES) {
            return Err("samples, classes or samples_per_shard are 0 or too large".to_owned());
        }
        if let Some(names) = &self.class_names
            && names.len() != classes as usize
        {
            let names = names.len();
            return Err(format!(
                "class_names has {names} names for {classes} classes"
            ));
        }
        let computed = self.class_names.as_deref().map(class_names_digest);
        if computed != self.class_names_sha256 {
            let digest =
                |digest: &Option<Sha256>| digest.as_ref().map_or("none".into(), Sha256::to_string);
            return Err(format!(
                "the SHA-256 of class_names is {}, class_names_sha256 is {}",
                digest(&computed),
                digest(&self.class_names_sha256)
            ));
        }
        let shards = samples.div_ceil(self.samples_per_shard);
        if u64::from(shards) > MAX_SHARDS {
            return Err(format!(
                "{samples} images, {} a shard, make {shards} shards a view, which is too many",
                self.samples_per_shard
            ));
        }
        Ok(())
    }
}

/// Rejects `bytes`, the JSON of `file`, if it has another format version. Must be called before the fields are
/// parsed: another format may have other fields.
///
/// # Errors
/// [`StoreError::NewerFormat`], [`StoreError::OlderFormat`].
pub(crate) fn check_format(bytes: &[u8], file: &Path) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        format_version: u32,
    }
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { format_version }) if format_version > FORMAT_VERSION => {
            Err(StoreError::NewerFormat {
                file: file.to_owned(),
                found: format_version,
            })
        }
        Ok(Versioned { format_version }) if format_version < FORMAT_VERSION => {
            Err(StoreError::OlderFormat {
                file: file.to_owned(),
                found: format_version,
            })
        }
        // The parser of the fields reports invalid JSON and a missing version.
        Ok(_) | Err(_) => Ok(()),
    }
}
