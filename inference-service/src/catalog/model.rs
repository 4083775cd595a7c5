//! The state of one model: which of its versions answer, and why others do not.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    canary::{CanaryCounts, Trial},
    loaded_version::LoadedVersion,
    route::Route,
    statistics::VersionStatistics,
};

/// Versions whose statistics are kept after they stopped serving: the newest ones.
const REMEMBERED_VERSIONS: usize = 16;

/// Trials that are listed after their end: those of the newest versions.
const REMEMBERED_TRIALS: usize = 16;

/// The state of a stored version that nothing asked to load.
const NOT_LOADED: &str = "not loaded";

/// The state of a version whose session failed.
const THREAD_STOPPED: &str = "a session thread panicked; see the log";

/// The state of one model.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServedModel {
    /// Whether the model has to answer: not while it is unloaded, and not before its first activation.
    pub(crate) wanted: bool,
    /// Why the model does not answer although it is wanted.
    pub(super) failure: Option<LoadFailure>,
    /// The version that answers requests that name none; it is loaded. `None` while the model is
    /// unloaded.
    pub(crate) active: Option<u64>,
    /// The version that was active when a caller unloaded the model, until the model is loaded again.
    pub(super) unloaded: Option<u64>,
    /// The trial of a canary beside the active version. Both are loaded.
    pub(super) trial: Option<Arc<Trial>>,
    /// The newest trial of each version, also after its end.
    pub(crate) trials: BTreeMap<u64, Arc<Trial>>,
    /// Counts of all trials.
    pub(crate) canaries: Arc<CanaryCounts>,
    /// Every version that answers.
    pub(crate) loaded: BTreeMap<u64, Arc<LoadedVersion>>,
    /// The version that is being loaded, or will be loaded soon.
    pub(super) loading: Option<u64>,
    /// Every version in the store, with the failure of a version that should be loaded and cannot be.
    pub(crate) stored: BTreeMap<u64, Option<LoadFailure>>,
    /// Statistics of every serving version, and of the newest versions that served in this process.
    pub(crate) statistics: BTreeMap<u64, Arc<VersionStatistics>>,
}

/// Why a version does not answer although it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadFailure {
    /// The error message.
    pub(crate) reason: String,
    /// Whether another attempt may succeed without a change by an operator: after a time-out or an I/O
    /// error, and when memory was short.
    pub(crate) transient: bool,
}

/// The state of a stored version, as in Triton's repository index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VersionState {
    /// The version answers requests.
    Ready,
    /// The version is being loaded, or will be loaded soon.
    Loading,
    /// The version does not answer; with the reason.
    Unavailable(String),
}

impl Default for VersionState {
    fn default() -> Self {
        Self::Unavailable(NOT_LOADED.to_owned())
    }
}

impl VersionState {
    /// Triton's name of the state.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Loading => "LOADING",
            Self::Unavailable(_) => "UNAVAILABLE",
        }
    }

    /// Why the version does not answer; empty unless the state is `Unavailable`.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Unavailable(reason) => reason,
            Self::Ready | Self::Loading => String::new(),
        }
    }
}

impl ServedModel {
    /// The active version, if it is loaded.
    pub(crate) fn active(&self) -> Option<&Arc<LoadedVersion>> {
        self.loaded.get(&self.active?)
    }

    /// The version that answers the next request that names none: the active one, or its canary.
    pub(super) fn route(&self) -> Option<Route> {
        let active = self.active()?;
        let Some(trial) = &self.trial else {
            return Some(Route::to(active));
        };
        let canary = self.loaded.get(&trial.canary);
        let canary = canary.filter(|canary| !canary.batcher.has_stopped() && trial.takes_next());
        Some(Route {
            version: Arc::clone(canary.unwrap_or(active)),
            observer: Some(trial.observer(canary.is_some())),
        })
    }

    /// The version on trial; 0 if there is none.
    pub(crate) fn canary(&self) -> u64 {
        self.trial.as_ref().map_or(0, |trial| trial.canary)
    }

    /// The number of the active version, if its session threads run.
    pub(crate) fn serving(&self) -> Option<u64> {
        let active = self.active()?;
        (!active.batcher.has_stopped()).then_some(active.version)
    }

    /// Whether the model answers, or does not have to answer.
    pub(crate) fn is_as_wanted(&self) -> bool {
        !self.wanted || self.serving().is_some()
    }

    /// Whether a version should be loaded and another attempt may succeed.
    pub(crate) fn can_be_retried(&self) -> bool {
        let stopped = self.loaded.values().any(|one| one.batcher.has_stopped());
        let failures = self.stored.values().chain([&self.failure]).flatten();
        self.wanted && (stopped || failures.into_iter().any(|failure| failure.transient))
    }

    /// The state of a stored version.
    pub(crate) fn state(&self, version: u64) -> VersionState {
        let unavailable = |reason: &str| VersionState::Unavailable(reason.to_owned());
        if let Some(loaded) = self.loaded.get(&version) {
            return if loaded.batcher.has_stopped() {
                unavailable(THREAD_STOPPED)
            } else {
                VersionState::Ready
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

    /// Lists `trial` as the newest one of its version.
    pub(super) fn remember_trial(&mut self, trial: &Arc<Trial>) {
        self.trials.insert(trial.canary, Arc::clone(trial));
        while self.trials.len() > REMEMBERED_TRIALS {
            self.trials.pop_first();
        }
    }

    /// Drops old statistics, so that years of publishing do not fill the memory.
    pub(super) fn forget_old_statistics(&mut self, loaded: &BTreeMap<u64, Arc<LoadedVersion>>) {
        let others = self.statistics.keys().rev();
        let others = others.filter(|version| !loaded.contains_key(version));
        let old: Vec<u64> = others.copied().skip(REMEMBERED_VERSIONS).collect();
        for version in old {
            self.statistics.remove(&version);
        }
    }
}
