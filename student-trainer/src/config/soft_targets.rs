//! `[soft_targets]` of a run: views and recordings.

use std::path::{Path, PathBuf};

use common::config::{Problems, is_default};
use serde::{Deserialize, Serialize};
use soft_targets::{Encoding, MAX_VIEWS};
use teacher_pool::{NumericsPolicy, PoolConfig};

/// Whether soft targets come from teachers or from a recording, and of which views.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftTargetsConfig {
    /// Where they come from.
    #[serde(default)]
    pub mode: SoftTargetsMode,
    /// What replaces live teachers when none is left.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fallback: Fallback,
    /// Augmented views of the images that phases with soft targets see, in turn, one an epoch; by
    /// default every epoch has a new one, and nothing can be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<u32>,
    /// Of the random changes that make the views; not the run's seed, so that runs of any seed share
    /// a recording.
    #[serde(default = "default_view_seed")]
    pub view_seed: u64,
    /// Folder of the recordings; relative to the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// How recorded logits are stored: as they come over the wire. Where several recordings fit, it
    /// picks one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// First digits of the recorded teacher's model id; where several recordings fit, it picks one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// Images a shard of a new recording.
    #[serde(default = "default_samples_per_shard")]
    pub samples_per_shard: u32,
    /// Whether a teacher's classes must be those of the data, by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class_names: ClassNames,
}

/// What the names of a teacher's classes mean to a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassNames {
    /// They are those of the data; where their order is another one, the logits are brought into that of
    /// the data.
    #[default]
    Match,
    /// Nothing: the first logit is that of the first class, whatever the names.
    Ignore,
}

/// Where soft targets come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftTargetsMode {
    /// Teachers, asked for every batch.
    #[default]
    Live,
    /// A recording; what it lacks is recorded from teachers while the run goes on.
    Record,
    /// A recording that has all that is left of the run. No teacher is needed.
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

/// A fixed set of views, and where they are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedViews {
    /// How many; 1 or more.
    pub count: u32,
    /// Of their random changes.
    pub seed: u64,
}

impl FixedViews {
    /// Which one a phase shows in an epoch, its position in the phase: each in turn.
    pub fn of_epoch(self, epoch: usize) -> u32 {
        // Holds: the remainder is below a u32.
        (epoch as u64 % u64::from(self.count)) as u32
    }
}

fn default_view_seed() -> u64 {
    1
}

fn default_samples_per_shard() -> u32 {
    8192
}

impl SoftTargetsConfig {
    /// The views, where there is a fixed set.
    pub fn fixed_views(&self) -> Option<FixedViews> {
        self.views.map(|count| FixedViews {
            count,
            seed: self.view_seed,
        })
    }

    /// Folder and views of recordings, where both are given.
    pub fn recordings(&self) -> Option<(&Path, FixedViews)> {
        Some((self.folder.as_deref()?, self.fixed_views()?))
    }

    pub(super) fn validate(&self, teacher: Option<&PoolConfig>, problems: &mut Problems) {
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
        let (SoftTargetsMode::Record, Some(teacher)) = (self.mode, teacher) else {
            return;
        };
        if let Some(encoding) = self
            .encoding
            .filter(|encoding| *encoding != teacher.encoding)
        {
            let message = format!(
                "must be teacher.encoding, {}: what comes over the wire is what is recorded",
                teacher.encoding
            );
            problems.add("soft_targets.encoding", encoding, &message);
        }
        let same = teacher.numerics == NumericsPolicy::Same;
        let message = "must be \"same\": a recording holds the logits of one teacher, bit for bit";
        problems.require(same, "teacher.numerics", "any", message);
    }
}
