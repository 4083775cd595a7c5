//! How a model is batched, computed and kept, in general and by name.

use std::time::Duration;

use artifacts::model_store::ModelName;
use common::{config::Problems, cores};
use serde::Deserialize;

/// How requests become batches.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// Samples computed together, at most.
    pub max_batch_size: usize,
    /// How long the first request of a batch waits for others.
    pub max_queue_delay_microseconds: u64,
    /// Requests that may wait.
    pub max_queue_size: usize,
    /// Longest time of a request that brings no time-out of its own; 0 for no limit.
    pub default_timeout_microseconds: u64,
}

impl BatchingConfig {
    /// How long the first request of a batch waits for others.
    pub fn max_queue_delay(&self) -> Duration {
        Duration::from_micros(self.max_queue_delay_microseconds)
    }

    /// Longest time of a request that brings no time-out of its own.
    pub fn default_timeout(&self) -> Option<Duration> {
        let timeout = Duration::from_micros(self.default_timeout_microseconds);
        Some(timeout).filter(|timeout| !timeout.is_zero())
    }
}

/// How batches are computed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Sessions a version, each on a thread of its own.
    pub instances: Instances,
    /// Threads that share the work of one batch.
    pub threads: usize,
    /// Whether an answer's bits depend on nothing but the input: every sample is computed alone.
    pub deterministic: bool,
}

/// How many sessions there are of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "must be a number or \"auto\"")]
pub enum Instances {
    /// So many.
    Count(usize),
    /// As suits the machine.
    Auto(Auto),
}

/// The word for "as suits the machine".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// The word.
    Auto,
}

impl Instances {
    /// The number of sessions: with `auto`, one for every two processors that the process may use
    /// (the other halves read requests and write answers), 8 at most.
    pub fn count(self) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Auto(Auto::Auto) => (cores::available() / 2).clamp(1, 8),
        }
    }
}

/// Which of a model's stored versions answer, beside the active one, which always does. In Triton's
/// words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum VersionPolicy {
    /// The active version and the newest others, so many in all.
    Latest {
        /// How many, the active one included.
        num_versions: usize,
    },
    /// Every one.
    All {},
    /// Those listed, as far as they are stored.
    Specific {
        /// The versions.
        versions: Vec<u64>,
    },
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest { num_versions: 1 }
    }
}

impl VersionPolicy {
    /// The versions among `stored` that are to answer while `active` is the active one, in ascending
    /// order.
    pub fn select(&self, stored: &[u64], active: u64) -> Vec<u64> {
        let mut selected: Vec<u64> = match self {
            Self::All {} => stored.to_vec(),
            Self::Specific { versions } => {
                let listed = stored.iter().filter(|version| versions.contains(version));
                listed.copied().collect()
            }
            Self::Latest { num_versions } => {
                let mut others = stored.to_vec();
                others.retain(|version| *version != active);
                others.sort_unstable();
                let kept = num_versions.saturating_sub(1).min(others.len());
                others.split_off(others.len() - kept)
            }
        };
        selected.push(active);
        selected.sort_unstable();
        selected.dedup();
        selected
    }
}

/// What `[models.NAME]` says otherwise than the rest of the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOverrides {
    /// Of [`BatchingConfig`].
    pub max_batch_size: Option<usize>,
    /// Of [`BatchingConfig`].
    pub max_queue_delay_microseconds: Option<u64>,
    /// Of [`BatchingConfig`].
    pub max_queue_size: Option<usize>,
    /// Of [`BatchingConfig`].
    pub default_timeout_microseconds: Option<u64>,
    /// Of [`RuntimeConfig`].
    pub instances: Option<Instances>,
    /// Of [`RuntimeConfig`].
    pub threads: Option<usize>,
    /// Of [`RuntimeConfig`].
    pub deterministic: Option<bool>,
    /// Which versions answer.
    pub version_policy: Option<VersionPolicy>,
}

/// Everything that is configured of one model.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// How its requests become batches.
    pub batching: BatchingConfig,
    /// How its batches are computed.
    pub runtime: RuntimeConfig,
    /// Which of its versions answer.
    pub version_policy: VersionPolicy,
    /// Whether every request has a line in the log.
    pub log_access: bool,
}

impl ModelConfig {
    /// `self`, with what `overrides` says.
    pub(super) fn overridden(self, overrides: &ModelOverrides) -> Self {
        let Self {
            batching,
            runtime,
            version_policy,
            log_access,
        } = self;
        let given = overrides;
        Self {
            batching: BatchingConfig {
                max_batch_size: given.max_batch_size.unwrap_or(batching.max_batch_size),
                max_queue_delay_microseconds: given
                    .max_queue_delay_microseconds
                    .unwrap_or(batching.max_queue_delay_microseconds),
                max_queue_size: given.max_queue_size.unwrap_or(batching.max_queue_size),
                default_timeout_microseconds: given
                    .default_timeout_microseconds
                    .unwrap_or(batching.default_timeout_microseconds),
            },
            runtime: RuntimeConfig {
                instances: given.instances.unwrap_or(runtime.instances),
                threads: given.threads.unwrap_or(runtime.threads),
                deterministic: given.deterministic.unwrap_or(runtime.deterministic),
            },
            version_policy: given.version_policy.clone().unwrap_or(version_policy),
            log_access,
        }
    }

    /// Adds what is out of range; `key` gives a field's full name.
    pub(super) fn validate(&self, problems: &mut Problems, key: impl Fn(Section, &str) -> String) {
        let mut within = |section: Section, field: &str, value: u64, least: u64, most: u64| {
            problems.require_within(&key(section, field), value, least..=most);
        };
        let BatchingConfig {
            max_batch_size,
            max_queue_delay_microseconds,
            max_queue_size,
            default_timeout_microseconds,
        } = self.batching;
        let batching = Section::Batching;
        within(batching, "max_batch_size", max_batch_size as u64, 1, 4096);
        let delay = max_queue_delay_microseconds;
        within(
            batching,
            "max_queue_delay_microseconds",
            delay,
            0,
            1_000_000,
        );
        within(
            batching,
            "max_queue_size",
            max_queue_size as u64,
            1,
            1 << 20,
        );
        let timeout = default_timeout_microseconds;
        within(
            batching,
            "default_timeout_microseconds",
            timeout,
            0,
            3_600_000_000,
        );
        let RuntimeConfig {
            instances, threads, ..
        } = self.runtime;
        within(
            Section::Runtime,
            "instances",
            instances.count() as u64,
            1,
            256,
        );
        within(Section::Runtime, "threads", threads as u64, 1, 256);
        if let VersionPolicy::Latest { num_versions } = self.version_policy {
            let field = "version_policy.latest.num_versions";
            within(Section::Top, field, num_versions as u64, 1, 1000);
        }
        let delay_key = key(batching, "max_queue_delay_microseconds");
        problems.require(
            timeout == 0 || timeout > delay,
            &key(batching, "default_timeout_microseconds"),
            timeout,
            &format!(
                "must be 0, or above {delay_key} = {delay}: a request may wait so long for others"
            ),
        );
    }
}

/// The table of the file that has a field in general.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// None: the field is at the top.
    Top,
    /// `[batching]`
    Batching,
    /// `[runtime]`
    Runtime,
}

impl Section {
    /// A field's key in the table of the defaults.
    pub(super) fn default_key(self, field: &str) -> String {
        match self {
            Self::Top => field.to_owned(),
            Self::Batching => format!("batching.{field}"),
            Self::Runtime => format!("runtime.{field}"),
        }
    }
}

/// Adds a name of `[models.NAME]` that no model can have.
pub(super) fn validate_name(name: &str, problems: &mut Problems) {
    if let Err(error) = ModelName::new(name) {
        let key = format!("models.{name}");
        problems.add(&key, name, &error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_keeps_the_active_version_and_what_its_words_say() {
        let stored = [1, 2, 3, 5];
        let latest = |num_versions| VersionPolicy::Latest { num_versions };
        let specific = |versions: &[u64]| VersionPolicy::Specific {
            versions: versions.to_vec(),
        };
        let cases: [(VersionPolicy, u64, &[u64]); 8] = [
            (latest(1), 5, &[5]),
            (latest(1), 2, &[2]),
            (latest(2), 5, &[3, 5]),
            (latest(2), 2, &[2, 5]),
            (latest(9), 3, &[1, 2, 3, 5]),
            (VersionPolicy::All {}, 3, &[1, 2, 3, 5]),
            (specific(&[1, 4]), 5, &[1, 5]),
            (specific(&[]), 5, &[5]),
        ];
        for (policy, active, expected) in cases {
            assert_eq!(policy.select(&stored, active), expected, "{policy:?}");
        }
    }

    #[test]
    fn auto_suits_the_machine() {
        assert!((1..=8).contains(&Instances::Auto(Auto::Auto).count()));
        assert_eq!(Instances::Count(12).count(), 12);
    }
}
