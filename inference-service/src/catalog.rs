//! The models that the service knows, and the versions of them that answer requests.

mod model;

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use artifacts::model_store::{ModelName, parse_version};
use tokio::sync::watch;

use crate::{
    canary::{CanaryCounts, Trial},
    error::InferenceError,
    loaded_version::LoadedVersion,
    names::shorten,
    route::Route,
    statistics::VersionStatistics,
};

pub(crate) use model::{LoadFailure, ServedModel, VersionState};

/// All models. The map is replaced as a whole: a request sees one state from beginning to end, and
/// holds the version that it was routed to until it is answered.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    models: ArcSwap<BTreeMap<ModelName, Arc<ServedModel>>>,
    /// Receives a message after every change, and when a session fails.
    changes: watch::Sender<()>,
}

impl Catalog {
    /// The loaded version that `model` and `version` name. An empty `version` selects the active version.
    ///
    /// # Errors
    /// If there is no such model or version, or none is loaded.
    pub(crate) fn find(
        &self,
        model: &str,
        version: &str,
    ) -> Result<Arc<LoadedVersion>, InferenceError> {
        let route = self.look_up(model, version, |served| served.active().map(Route::to));
        route.map(|route| route.version)
    }

    /// The version that answers a request for `model` and `version`. With an empty `version`, the active version, or
    /// its canary for the canary's share of these requests.
    ///
    /// # Errors
    /// Those of [`find`](Self::find).
    pub(crate) fn route(&self, model: &str, version: &str) -> Result<Route, InferenceError> {
        self.look_up(model, version, ServedModel::route)
    }

    fn look_up(
        &self,
        model: &str,
        version: &str,
        unnamed: fn(&ServedModel) -> Option<Route>,
    ) -> Result<Route, InferenceError> {
        let models = self.models.load();
        let served = models.get(model).ok_or_else(|| no_such_model(model))?;
        let found = match version {
            "" => unnamed(served),
            version => parse_version(version)
                .and_then(|version| served.loaded.get(&version))
                .map(Route::to),
        };
        match found {
            Some(found) => Ok(found),
            None if served.loaded.is_empty() => Err(InferenceError::NotLoaded {
                model: shorten(model),
            }),
            None => Err(no_such_version(model, served, version)),
        }
    }

    /// The active version of `model`, if it answers.
    pub(crate) fn serving(&self, model: &ModelName) -> Option<u64> {
        self.models.load().get(model)?.serving()
    }

    /// Notifies the receiver after every change, and when a session fails.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The loaded versions of `model`.
    pub(crate) fn loaded(&self, model: &ModelName) -> BTreeMap<u64, Arc<LoadedVersion>> {
        let models = self.models.load();
        models
            .get(model)
            .map(|served| served.loaded.clone())
            .unwrap_or_default()
    }

    /// The loaded versions of `model` without those whose session has failed.
    pub(crate) fn answering(&self, model: &ModelName) -> BTreeMap<u64, Arc<LoadedVersion>> {
        let mut loaded = self.loaded(model);
        loaded.retain(|_, version| !version.batcher.has_stopped());
        loaded
    }

    /// A snapshot of the models, by name.
    pub(crate) fn models(&self) -> Arc<BTreeMap<ModelName, Arc<ServedModel>>> {
        self.models.load_full()
    }

    /// Estimated memory of all loaded versions.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let models = self.models.load();
        let loaded = models.values().flat_map(|served| served.loaded.values());
        loaded.map(|version| version.memory_bytes).sum()
    }

    /// The statistics of a version: those that it had when it served before, or empty ones.
    pub(crate) fn statistics(&self, model: &ModelName, version: u64) -> Arc<VersionStatistics> {
        let models = self.models.load();
        let served = models.get(model);
        served
            .and_then(|served| served.statistics.get(&version).map(Arc::clone))
            .unwrap_or_default()
    }

    /// Where sessions report their failures, for [`changes`](Self::changes).
    pub(crate) fn change_sender(&self) -> &watch::Sender<()> {
        &self.changes
    }

    /// The trial of `model` that runs, if any.
    pub(crate) fn trial(&self, model: &ModelName) -> Option<Arc<Trial>> {
        self.models.load().get(model)?.trial.clone()
    }

    /// Whether `trial` runs.
    pub(crate) fn is_on_trial(&self, model: &ModelName, trial: &Arc<Trial>) -> bool {
        let running = self.trial(model);
        running.is_some_and(|running| Arc::ptr_eq(&running, trial))
    }

    /// The counts of all trials of `model`.
    pub(crate) fn canary_counts(&self, model: &ModelName) -> Arc<CanaryCounts> {
        let models = self.models.load();
        let served = models.get(model);
        served
            .map(|served| Arc::clone(&served.canaries))
            .unwrap_or_default()
    }

    /// Sends `trial`'s share of the model's requests to `canary`, too.
    pub(crate) fn begin_trial(&self, canary: &Arc<LoadedVersion>, trial: &Arc<Trial>) {
        let version = canary.version;
        self.change(&canary.model, |served| {
            let statistics = Arc::clone(&canary.statistics);
            served.statistics.insert(version, statistics);
            served.loaded.insert(version, Arc::clone(canary));
            served.stored.insert(version, None);
            served.trial = Some(Arc::clone(trial));
            served.remember_trial(trial);
        });
    }

    /// Ends the running trial of `model`: its canary, which stays loaded, gets no more requests that do not name it.
    pub(crate) fn end_trial(&self, model: &ModelName) {
        self.change(model, |served| served.trial = None);
    }

    /// Routes the model's requests to `loaded`; `active`, which is among them, answers requests that name no
    /// version. Versions that are replaced finish the requests that they have. A trial continues if its two versions
    /// answer as before. For `stored` see [`ServedModel`].
    pub(crate) fn serve(
        &self,
        model: &ModelName,
        active: u64,
        loaded: BTreeMap<u64, Arc<LoadedVersion>>,
        stored: BTreeMap<u64, Option<LoadFailure>>,
    ) {
        self.change(model, |served| {
            served.wanted = true;
            served.failure = None;
            served.loading = None;
            let statistics = loaded
                .iter()
                .map(|(version, loaded)| (*version, Arc::clone(&loaded.statistics)));
            served.statistics.extend(statistics);
            served.forget_old_statistics(&loaded);
            served.trial = served.trial.take().filter(|trial| {
                trial.active == active
                    && active != trial.canary
                    && loaded.contains_key(&trial.canary)
            });
            served.active = Some(active);
            served.unloaded = None;
            served.loaded = loaded.clone();
            served.stored = stored.clone();
        });
    }

    /// Unloads all versions of `model` at a caller's request: the model does not have to answer any more.
    pub(crate) fn unload(&self, model: &ModelName) {
        self.change(model, |served| {
            served.wanted = false;
            served.failure = None;
            served.unloaded = served.active.take().or(served.unloaded);
            served.trial = None;
            served.loaded.clear();
            served
                .stored
                .values_mut()
                .for_each(|failure| *failure = None);
        });
    }

    /// The version of `model` that was active when a caller unloaded the model, until the model is loaded again.
    pub(crate) fn unloaded(&self, model: &ModelName) -> Option<u64> {
        self.models.load().get(model)?.unloaded
    }

    /// Unloads all versions of `model` while another one is loaded. Each returned reference is dead once
    /// the sessions of its version have ended.
    pub(crate) fn vacate(&self, model: &ModelName) -> Vec<Weak<()>> {
        let loaded = self.loaded(model);
        self.change(model, |served| {
            served.active = None;
            served.trial = None;
            served.loaded.clear();
        });
        let sessions = loaded.values().map(|version| version.batcher.sessions());
        sessions.collect()
    }

    /// Records which versions of a model are in the store.
    pub(crate) fn store(&self, model: &ModelName, stored: &[u64]) {
        self.change(model, |served| {
            let mut failures = std::mem::take(&mut served.stored);
            let failure = |version: &u64| (*version, failures.remove(version).flatten());
            served.stored = stored.iter().map(failure).collect();
        });
    }

    /// Records which version of a model will be loaded while none of them answers. With `None`, the model
    /// does not have to answer.
    pub(crate) fn expect(&self, model: &ModelName, wanted: Option<u64>) {
        self.change(model, |served| {
            served.wanted = wanted.is_some();
            served.loading = wanted;
        });
    }

    /// Records the version of a known model that is being loaded, if any.
    pub(crate) fn loading(&self, model: &ModelName, version: Option<u64>) {
        if self.models.load().contains_key(model) {
            self.change(model, |served| served.loading = version);
        }
    }

    /// Records why the model does not answer although it should: `version` cannot be loaded, or the
    /// version to load is unknown (`None`).
    pub(crate) fn fail(&self, model: &ModelName, version: Option<u64>, failure: &LoadFailure) {
        self.change(model, |served| {
            served.wanted = true;
            served.failure = Some(failure.clone());
            served.unloaded = None;
            served.loading = None;
            match version {
                Some(version) => _ = served.stored.insert(version, Some(failure.clone())),
                None => {
                    let failures = served.stored.values_mut();
                    failures.for_each(|stored| *stored = Some(failure.clone()));
                }
            }
        });
    }

    /// Records why a version other than the active one does not answer.
    pub(crate) fn fail_beside(&self, model: &ModelName, version: u64, failure: &LoadFailure) {
        self.change(model, |served| {
            served.stored.insert(version, Some(failure.clone()));
        });
    }

    /// Removes a version that was deleted from the store.
    pub(crate) fn forget(&self, model: &ModelName, version: u64) {
        self.change(model, |served| {
            served.stored.remove(&version);
            served.loaded.remove(&version);
            served.trial = served.trial.take().filter(|trial| trial.canary != version);
        });
    }

    /// Removes a model that was deleted from the store. Its versions finish the requests that they have.
    pub(crate) fn remove(&self, model: &ModelName) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.remove(model);
            models
        });
        self.changes.send_replace(());
    }

    /// Changes one model.
    fn change(&self, model: &ModelName, change: impl Fn(&mut ServedModel)) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            let before = models.get(model).map(Arc::as_ref).cloned();
            let mut served = before.unwrap_or_default();
            change(&mut served);
            models.insert(model.clone(), Arc::new(served));
            models
        });
        self.changes.send_replace(());
    }
}

pub(crate) fn no_such_model(model: &str) -> InferenceError {
    InferenceError::NoSuchModel {
        model: shorten(model),
    }
}

pub(crate) fn no_such_version(
    model: &str,
    served: &ServedModel,
    requested: &str,
) -> InferenceError {
    let serving: Vec<_> = served.loaded.keys().map(u64::to_string).collect();
    InferenceError::NoSuchVersion {
        model: shorten(model),
        requested: shorten(requested),
        serving: serving.join(", "),
    }
}
