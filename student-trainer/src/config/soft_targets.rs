//! `[soft_targets]` of a run: views and recordings.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use common::config::{Problems, is_default};
use object_storage::{InvalidLocation, Location};
use serde::{Deserialize, Serialize};
use soft_targets::{BucketOptions, Encoding, MAX_VIEWS};
use teacher_pool::{NumericsPolicy, PoolConfig};

/// The source of soft targets, and the views that they show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftTargetsConfig {
    /// Where soft targets come from.
    #[serde(default)]
    pub mode: SoftTargetsMode,
    /// What replaces live teachers when none is left.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fallback: Fallback,
    /// Number of augmented views that phases with soft targets show in turn, one per epoch. By default every
    /// epoch has a new view, and nothing can be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<u32>,
    /// Seed of the views; not the run's seed, so that runs with any seed share a recording.
    #[serde(default = "default_view_seed")]
    pub view_seed: u64,
    /// Folder of the recordings, relative to the working directory, or the URL of a prefix in a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Folder for copies of the shards in a bucket, relative to the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Limit of the copies together, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cache_bytes: Option<u64>,
    /// How long a request to a bucket is repeated if it fails, or waits for an answer, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_seconds: Option<u64>,
    /// Encoding of the recording to use, if several fit. Logits are recorded as teachers send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// First digits of the model id of the recording's teacher, if several recordings fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// Images per shard of a new recording.
    #[serde(default = "default_samples_per_shard")]
    pub samples_per_shard: u32,
    /// Whether a teacher's class names must match those of the data.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class_names: ClassNames,
    /// As `teacher`, for each named teacher.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub teachers: BTreeMap<String, String>,
}

/// Whether a teacher's class names must match those of the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassNames {
    /// They must; if their order differs, the run reorders the logits.
    #[default]
    Match,
    /// They need not: the run matches classes by position.
    Ignore,
}

/// Where soft targets come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftTargetsMode {
    /// Teachers, asked for every batch.
    #[default]
    Live,
    /// A recording; the run records missing targets from teachers while it trains.
    Record,
    /// A complete recording; no teacher is needed.
    Recorded,
}

/// What replaces live teachers when the run has waited for one in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Nothing: the run fails and keeps its checkpoint.
    #[default]
    None,
    /// A recording of the same teacher, as far as it reaches: the bits stay the same.
    Recorded,
}

/// A fixed set of views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedViews {
    /// Number of views; 1 or more.
    pub count: u32,
    /// Seed of their random changes.
    pub seed: u64,
}

impl FixedViews {
    /// The view that a phase shows in `epoch`, counted from 0: each in turn.
    pub fn of_epoch(self, epoch: usize) -> u32 {
        // Holds: the remainder is below `count`, a u32.
        (epoch as u64 % u64::from(self.count)) as u32
    }
}

/// Folder for copies of the shards in a bucket.
const DEFAULT_CACHE: &str = "soft-targets-cache";

const DEFAULT_MAX_CACHE_BYTES: u64 = 20 << 30;

/// Seconds.
const DEFAULT_PATIENCE: u64 = 60;

fn default_view_seed() -> u64 {
    1
}

fn default_samples_per_shard() -> u32 {
    8192
}

impl SoftTargetsConfig {
    /// The views, if there is a fixed set.
    pub fn fixed_views(&self) -> Option<FixedViews> {
        self.views.map(|count| FixedViews {
            count,
            seed: self.view_seed,
        })
    }

    /// Where recordings are, and their views, if both are configured.
    pub fn recordings(&self) -> Option<(Location, FixedViews)> {
        // Holds: the configuration was validated.
        let location = self.location().ok().flatten();
        Some((location?, self.fixed_views()?))
    }

    /// Where recordings are, if that is configured.
    fn location(&self) -> Result<Option<Location>, InvalidLocation> {
        self.folder.as_deref().map(Location::parse).transpose()
    }

    /// How the run uses recordings in a bucket.
    pub fn bucket_options(&self) -> BucketOptions {
        let cache = self.cache.as_deref();
        BucketOptions {
            cache: cache.unwrap_or(DEFAULT_CACHE.as_ref()).to_owned(),
            max_cache_bytes: self.max_cache_bytes.unwrap_or(DEFAULT_MAX_CACHE_BYTES),
            patience: Duration::from_secs(self.patience_seconds.unwrap_or(DEFAULT_PATIENCE)),
        }
    }

    /// The folder or bucket of recordings, and the folder for copies of a bucket, each with its key.
    pub fn locations(&self) -> Vec<(&'static str, Location)> {
        // Holds: the configuration was validated.
        let Some(location) = self.location().ok().flatten() else {
            return Vec::new();
        };
        let copies = match location {
            Location::Folder(_) => None,
            Location::Bucket(_) => Some(Location::Folder(self.bucket_options().cache)),
        };
        let copies = copies.map(|copies| ("soft_targets.cache", copies));
        let recordings = [("soft_targets.folder", location)];
        recordings.into_iter().chain(copies).collect()
    }

    /// Adds its problems. `pools` are the teachers, each with the name of its table.
    pub(super) fn validate(&self, pools: &[(String, &PoolConfig)], problems: &mut Problems) {
        if let Some(views) = self.views {
            let allowed = format!("must be from 1 to {MAX_VIEWS}");
            let fits = (1..=MAX_VIEWS).contains(&views);
            problems.require(fits, "soft_targets.views", views, &allowed);
        }
        let fits = i64::try_from(self.view_seed).is_ok();
        let seed = self.view_seed;
        problems.require(fits, "soft_targets.view_seed", seed, "must be below 2^63");
        let samples = self.samples_per_shard;
        let fits = (1..=1 << 24).contains(&samples);
        let allowed = "must be from 1 to 16777216";
        problems.require(fits, "soft_targets.samples_per_shard", samples, allowed);
        self.validate_storage(problems);
        let recorded = self.fallback == Fallback::Recorded;
        if self.mode == SoftTargetsMode::Live {
            let fits = !recorded || self.recordings().is_some();
            let needed = "needs soft_targets.folder and soft_targets.views";
            problems.require(fits, "soft_targets.fallback", "recorded", needed);
            return;
        }
        let message = "must be \"none\" unless soft_targets.mode is \"live\"";
        problems.require(!recorded, "soft_targets.fallback", "recorded", message);
        let needed = "is missing, and soft targets cannot be recorded without";
        problems.require(
            self.folder.is_some(),
            "soft_targets.folder",
            "(none)",
            needed,
        );
        problems.require(self.views.is_some(), "soft_targets.views", "(none)", needed);
        if self.mode != SoftTargetsMode::Record {
            return;
        }
        for (table, pool) in pools {
            let encoding = self.encoding.filter(|encoding| *encoding != pool.encoding);
            if let Some(encoding) = encoding {
                let message = format!(
                    "must be {table}.encoding, {}: a recording contains the teacher's answers unchanged",
                    pool.encoding
                );
                problems.add("soft_targets.encoding", encoding, &message);
            }
            let same = pool.numerics == NumericsPolicy::Same;
            let message =
                "must be \"same\": a recording holds the logits of one teacher, bit for bit";
            problems.require(same, &format!("{table}.numerics"), "any", message);
        }
    }

    fn validate_storage(&self, problems: &mut Problems) {
        if let Err(error) = self.location() {
            let folder = self.folder.as_deref().unwrap_or("".as_ref());
            let shown = format!("\"{}\"", folder.display());
            problems.add("soft_targets.folder", shown, &error.to_string());
        }
        let BucketOptions {
            cache,
            max_cache_bytes,
            patience,
        } = self.bucket_options();
        let has_cache = !cache.as_os_str().is_empty();
        problems.require(has_cache, "soft_targets.cache", "\"\"", "must be a folder");
        let most = 1 << 50;
        problems.require_within("soft_targets.max_cache_bytes", max_cache_bytes, 0..=most);
        let seconds = patience.as_secs();
        problems.require_within("soft_targets.patience_seconds", seconds, 1..=3600);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> SoftTargetsConfig {
        toml::from_str(toml).unwrap()
    }

    fn problems(toml: &str) -> Vec<String> {
        let mut problems = Problems::default();
        config(toml).validate(&[], &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn recordings_are_in_a_folder_or_in_a_bucket_with_copies_in_a_folder() {
        for (toml, expected) in [
            ("", ""),
            ("folder = \"targets\"", "soft_targets.folder targets"),
            ("folder = \"file:///srv\"", "soft_targets.folder /srv"),
            (
                "folder = \"s3://b/a\"",
                "soft_targets.folder s3://b/a, soft_targets.cache soft-targets-cache",
            ),
            (
                "folder = \"gs://b\"\ncache = \"/c\"",
                "soft_targets.folder gs://b, soft_targets.cache /c",
            ),
        ] {
            assert_eq!(problems(toml), Vec::<String>::new());
            let locations = config(toml).locations().into_iter();
            let named = locations.map(|(key, location)| match location {
                Location::Folder(folder) => format!("{key} {}", folder.display()),
                Location::Bucket(bucket) => format!("{key} {bucket}"),
            });
            assert_eq!(named.collect::<Vec<_>>().join(", "), expected, "{toml}");
        }
    }

    #[test]
    fn what_cannot_be_a_place_or_a_limit_is_named() {
        for (toml, part) in [
            (
                "folder = \"\"",
                "soft_targets.folder = \"\": must be a folder, file:///FOLDER",
            ),
            (
                "folder = \"http://b/a\"",
                "soft_targets.folder = \"http://b/a\": must be",
            ),
            (
                "folder = \"s3://b/../a\"",
                "soft_targets.folder = \"s3://b/../a\": must be",
            ),
            (
                "cache = \"\"",
                "soft_targets.cache = \"\": must be a folder",
            ),
            (
                "max_cache_bytes = 2000000000000000",
                "must be from 0 to 1125899906842624",
            ),
            ("patience_seconds = 0", "must be from 1 to 3600"),
        ] {
            let found = problems(toml);
            assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
        }
    }
}
