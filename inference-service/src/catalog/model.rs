//! One model of the catalog: which of its versions answer, and why others do not.

use std::{collections::BTreeMap, sync::Arc};

use super::LoadedVersion;
use crate::statistics::VersionStatistics;

/// Versions that serve no more and are still in the statistics, at most; the newest ones.
const REMEMBERED_VERSIONS: usize = 16;

/// Why a version that the store holds and no caller asked to load does not answer.
const NOT_LOADED: &str = "not loaded";

/// Why a version does not answer whose session failed.
const THREAD_STOPPED: &str = "the thread of a session stopped by a fault; the log says why";

/// One model.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServedModel {
    /// Whether the model has to answer. False while it is unloaded, and before its first version is
    /// activated.
    pub(crate) wanted: bool,
    /// Why it does not answer although it is wanted.
    pub(super) failure: Option<LoadFailure>,
    /// The version that answers requests which name none; it is among the loaded ones. `None` while
    /// the model is unloaded.
    pub(crate) active: Option<u64>,
    /// Every version that answers.
    pub(crate) loaded: BTreeMap<u64, Arc<LoadedVersion>>,
    /// The version that is being loaded, or will be soon.
    pub(super) loading: Option<u64>,
    /// Every version in the store, with the failure of those that should be loaded and cannot be.
    pub(crate) stored: BTreeMap<u64, Option<LoadFailure>>,
    /// Of every version that serves, and of the newest that have served since the process began.
    pub(crate) statistics: BTreeMap<u64, Arc<VersionStatistics>>,
}

/// Why a version does not answer although it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadFailure {
    /// In words.
    pub(crate) reason: String,
    /// Whether another attempt may succeed without any change by an operator: after a time-out or an
    /// I/O error, and when memory was short.
    pub(crate) transient: bool,
}

/// What a stored version does, in the words of Triton's repository index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VersionState {
    /// It answers requests.
    Ready,
    /// It is being loaded, or will be soon.
    Loading,
    /// It does not answer; why.
    Unavailable(String),
}

impl Default for VersionState {
    fn default() -> Self {
        Self::Unavailable(NOT_LOADED.to_owned())
    }
}

impl VersionState {
    /// Triton's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Loading => "LOADING",
            Self::Unavailable(_) => "UNAVAILABLE",
        }
    }

    /// Why the version does not answer; empty unless it is unavailable.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Unavailable(reason) => reason,
            Self::Ready | Self::Loading => String::new(),
        }
    }
}

impl ServedModel {
    pub(crate) fn active(&self) -> Option<&Arc<LoadedVersion>> {
        self.loaded.get(&self.active?)
    }

    /// The version that answers requests which name none; `None` also where its thread has stopped.
    pub(crate) fn serving(&self) -> Option<u64> {
        let active = self.active()?;
        (!active.batcher.has_stopped()).then_some(active.version)
    }

    /// Whether the model answers, or does not have to.
    pub(crate) fn is_as_wanted(&self) -> bool {
        !self.wanted || self.serving().is_some()
    }

    /// Whether something of the model should be loaded and another attempt may succeed.
    pub(crate) fn can_be_retried(&self) -> bool {
        let stopped = self.loaded.values().any(|one| one.batcher.has_stopped());
        let failures = self.stored.values().chain([&self.failure]).flatten();
        self.wanted && (stopped || failures.into_iter().any(|failure| failure.transient))
    }

    /// What a version of the store does.
    pub(crate) fn state(&self, version: u64) -> VersionState {
        let unavailable = |reason: &str| VersionState::Unavailable(reason.to_owned());
        if let Some(loaded) = self.loaded.get(&version) {
            return match loaded.batcher.has_stopped() {
                false => VersionState::Ready,
                true => unavailable(THREAD_STOPPED),
            };
        }
        if self.loading == Some(version) {
            return VersionState::Loading;
        }
        match self.stored.get(&version) {
            Some(Some(failure)) => unavailable(&failure.reason),
            Some(None) | None => VersionState::default(),
        }
    }

    /// A service that is published to for years must not remember every version.
    pub(super) fn forget_old_statistics(&mut self, loaded: &BTreeMap<u64, Arc<LoadedVersion>>) {
        let others = self.statistics.keys().rev();
        let others = others.filter(|version| !loaded.contains_key(version));
        let old: Vec<u64> = others.copied().skip(REMEMBERED_VERSIONS).collect();
        for version in old {
            self.statistics.remove(&version);
        }
    }
}
