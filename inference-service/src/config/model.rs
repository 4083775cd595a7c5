//! Configuration of models: defaults, and overrides by name.

use std::time::Duration;

use artifacts::model_store::ModelName;
use common::{config::Problems, cores};
use serde::Deserialize;

/// How requests become batches.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// Maximum number of samples in a batch.
    pub max_batch_size: usize,
    /// How long the first request of a batch waits for others.
    pub max_queue_delay_microseconds: u64,
    /// Maximum number of queued requests.
    pub max_queue_size: usize,
    /// Time-out of requests that have none of their own; 0 for no limit.
    pub default_timeout_microseconds: u64,
}

impl BatchingConfig {
    /// How long the first request of a batch waits for others.
    pub fn max_queue_delay(&self) -> Duration {
        Duration::from_micros(self.max_queue_delay_microseconds)
    }

    /// Time-out of requests that have none of their own.
    pub fn default_timeout(&self) -> Option<Duration> {
        let timeout = Duration::from_micros(self.default_timeout_microseconds);
        Some(timeout).filter(|timeout| !timeout.is_zero())
    }
}

/// How batches are computed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Sessions per version, each on its own thread.
    pub instances: Instances,
    /// Threads that share the work of one batch.
    pub threads: usize,
    /// Whether the bits of an answer depend only on the input: every sample is computed alone.
    pub deterministic: bool,
}

/// Number of sessions per version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "must be a number or \"auto\"")]
pub enum Instances {
    /// A fixed number.
    Count(usize),
    /// Chosen by the number of processors.
    Auto(Auto),
}

/// The value `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// `"auto"`.
    Auto,
}

impl Instances {
    /// The number of sessions. With `auto`: one per two available processors, because the others read requests
    /// and write answers, and at most 8.
    pub fn count(self) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Auto(Auto::Auto) => (cores::available() / 2).clamp(1, 8),
        }
    }
}

/// Which stored versions of a model answer besides the active one, which always answers. The names are those of
/// Triton.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum VersionPolicy {
    /// The active version and the newest others.
    Latest {
        /// Number of versions, including the active one.
        num_versions: usize,
    },
    /// Every version.
    All {},
    /// The listed versions that are stored.
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
    /// The versions among `stored` that answer while `active` is the active version, in ascending order.
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

/// The overrides of `[models.NAME]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOverrides {
    /// See [`BatchingConfig`].
    pub max_batch_size: Option<usize>,
    /// See [`BatchingConfig`].
    pub max_queue_delay_microseconds: Option<u64>,
    /// See [`BatchingConfig`].
    pub max_queue_size: Option<usize>,
    /// See [`BatchingConfig`].
    pub default_timeout_microseconds: Option<u64>,
    /// See [`RuntimeConfig`].
    pub instances: Option<Instances>,
    /// See [`RuntimeConfig`].
    pub threads: Option<usize>,
    /// See [`RuntimeConfig`].
    pub deterministic: Option<bool>,
    /// Which versions answer.
    pub version_policy: Option<VersionPolicy>,
}

/// The complete configuration of one model.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// How its requests become batches.
    pub batching: BatchingConfig,
    /// How its batches are computed.
    pub runtime: RuntimeConfig,
    /// Which of its versions answer.
    pub version_policy: VersionPolicy,
}

impl ModelConfig {
    /// Applies `overrides`.
    pub(super) fn overridden(self, overrides: &ModelOverrides) -> Self {
        let Self {
            batching,
            runtime,
            version_policy,
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
        }
    }

    /// Adds values that are out of range; `key` gives the full name of a field.
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
                "must be 0, or above {delay_key} = {delay}, the time that a request may wait for others"
            ),
        );
    }
}

/// The table that has the default of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// The top level.
    Top,
    /// `[batching]`
    Batching,
    /// `[runtime]`
    Runtime,
}

impl Section {
    /// The key of a field's default.
    pub(super) fn default_key(self, field: &str) -> String {
        match self {
            Self::Top => field.to_owned(),
            Self::Batching => format!("batching.{field}"),
            Self::Runtime => format!("runtime.{field}"),
        }
    }
}

/// Adds an invalid name of `[models.NAME]`.
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
    fn a_policy_selects_the_active_version_and_others() {
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
    fn auto_depends_on_the_processors() {
        assert!((1..=8).contains(&Instances::Auto(Auto::Auto).count()));
        assert_eq!(Instances::Count(12).count(), 12);
    }
}
