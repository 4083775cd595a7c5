//! Which versions of which models serve.

mod model;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use artifacts::{
    manifest::ArtifactManifest,
    model_store::{ModelName, parse_version},
};
use onnx_runtime::{ModelInterface, Session};
use tokio::sync::watch;

use crate::{
    batcher::Batcher, config::ModelConfig, error::InferenceError, statistics::VersionStatistics,
};

pub(crate) use model::{LoadFailure, ServedModel, VersionState};

/// Names that came over the wire are cut to this many characters in messages.
const LONGEST_NAME: usize = 64;

/// A version that is loaded and answers requests.
#[derive(Debug)]
pub(crate) struct LoadedVersion {
    pub(crate) model: ModelName,
    pub(crate) version: u64,
    pub(crate) interface: ModelInterface,
    /// What was published with the model.
    pub(crate) manifest: Arc<ArtifactManifest>,
    pub(crate) config: Arc<ModelConfig>,
    pub(crate) batcher: Batcher,
    pub(crate) statistics: Arc<VersionStatistics>,
    /// As estimated when it was loaded.
    pub(crate) memory_bytes: u64,
}

/// All models, replaced as a whole: a request sees one state from beginning to end, and holds the
/// version it was routed to until it is answered.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    models: ArcSwap<BTreeMap<ModelName, Arc<ServedModel>>>,
    /// Receives every change, and failures of sessions.
    changes: watch::Sender<()>,
}

impl Catalog {
    /// The version that answers a request for `model` and `version`, which is empty or the number
    /// of a version that serves.
    pub(crate) fn find(
        &self,
        model: &str,
        version: &str,
    ) -> Result<Arc<LoadedVersion>, InferenceError> {
        let models = self.models.load();
        let served = models.get(model).ok_or_else(|| no_such_model(model))?;
        let found = match version {
            "" => served.active(),
            version => parse_version(version).and_then(|version| served.loaded.get(&version)),
        };
        match found {
            Some(found) => Ok(Arc::clone(found)),
            None if served.loaded.is_empty() => Err(InferenceError::NotLoaded {
                model: shorten(model),
            }),
            None => Err(no_such_version(model, served, version)),
        }
    }

    /// The version of `model` that answers requests which name none.
    pub(crate) fn serving(&self, model: &ModelName) -> Option<u64> {
        self.models.load().get(model)?.serving()
    }

    /// Wakes its holder after every change of what answers.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The versions of `model` that are loaded.
    pub(crate) fn loaded(&self, model: &ModelName) -> BTreeMap<u64, Arc<LoadedVersion>> {
        let models = self.models.load();
        models
            .get(model)
            .map(|served| served.loaded.clone())
            .unwrap_or_default()
    }

    /// The same without those whose session has failed.
    pub(crate) fn answering(&self, model: &ModelName) -> BTreeMap<u64, Arc<LoadedVersion>> {
        let mut loaded = self.loaded(model);
        loaded.retain(|_, version| !version.batcher.has_stopped());
        loaded
    }

    /// The models, by name, as they are now.
    pub(crate) fn models(&self) -> Arc<BTreeMap<ModelName, Arc<ServedModel>>> {
        self.models.load_full()
    }

    /// Memory of every loaded version, as estimated.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let models = self.models.load();
        let loaded = models.values().flat_map(|served| served.loaded.values());
        loaded.map(|version| version.memory_bytes).sum()
    }

    /// Starts the threads of a version. It answers nobody before it is given to
    /// [`serve`](Self::serve).
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn load(
        &self,
        model: &ModelName,
        version: u64,
        prepared: Prepared,
        config: Arc<ModelConfig>,
    ) -> io::Result<Arc<LoadedVersion>> {
        let known = self.models.load().get(model).map(Arc::clone);
        let statistics = known
            .and_then(|served| served.statistics.get(&version).map(Arc::clone))
            .unwrap_or_default();
        Ok(Arc::new(LoadedVersion {
            model: model.clone(),
            version,
            interface: prepared.interface,
            manifest: prepared.manifest,
            batcher: Batcher::start(prepared.sessions, &config, &statistics, &self.changes)?,
            config,
            statistics,
            memory_bytes: prepared.memory_bytes,
        }))
    }

    /// Lets `loaded` answer from now on, `active` among them where no version is named, in place of
    /// what answered before, which finishes the requests that it has. `stored` is as in
    /// [`ServedModel`].
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
            served.active = Some(active);
            served.loaded = loaded.clone();
            served.stored = stored.clone();
        });
    }

    /// Lets no version of `model` answer until one is served again, as its caller wants.
    pub(crate) fn unload(&self, model: &ModelName) {
        self.change(model, |served| {
            served.wanted = false;
            served.failure = None;
            served.active = None;
            served.loaded.clear();
            served
                .stored
                .values_mut()
                .for_each(|failure| *failure = None);
        });
    }

    /// Lets no version of `model` answer while another is loaded. Returns what is dead when all of
    /// them have been unloaded.
    pub(crate) fn vacate(&self, model: &ModelName) -> Vec<Weak<()>> {
        let loaded = self.loaded(model);
        self.change(model, |served| {
            served.active = None;
            served.loaded.clear();
        });
        let sessions = loaded.values().map(|version| version.batcher.sessions());
        sessions.collect()
    }

    /// Notes which versions of a model are in the store.
    pub(crate) fn store(&self, model: &ModelName, stored: &[u64]) {
        self.change(model, |served| {
            let mut failures = std::mem::take(&mut served.stored);
            let failure = |version: &u64| (*version, failures.remove(version).flatten());
            served.stored = stored.iter().map(failure).collect();
        });
    }

    /// Notes which version of a model will be loaded, while none of them answers; `None`: the model does
    /// not have to answer.
    pub(crate) fn expect(&self, model: &ModelName, wanted: Option<u64>) {
        self.change(model, |served| {
            served.wanted = wanted.is_some();
            served.loading = wanted;
        });
    }

    /// Notes that a version of a model that is there is being loaded, or that none is any more.
    pub(crate) fn loading(&self, model: &ModelName, version: Option<u64>) {
        if self.models.load().contains_key(model) {
            self.change(model, |served| served.loading = version);
        }
    }

    /// Notes why the model does not answer although it should: `version` cannot be loaded, or it is
    /// not known which one to load.
    pub(crate) fn fail(&self, model: &ModelName, version: Option<u64>, failure: &LoadFailure) {
        self.change(model, |served| {
            served.wanted = true;
            served.failure = Some(failure.clone());
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

    /// Notes why a version does not answer beside the active one.
    pub(crate) fn fail_beside(&self, model: &ModelName, version: u64, failure: &LoadFailure) {
        self.change(model, |served| {
            served.stored.insert(version, Some(failure.clone()));
        });
    }

    /// Forgets a version that has been deleted.
    pub(crate) fn forget(&self, model: &ModelName, version: u64) {
        self.change(model, |served| {
            served.stored.remove(&version);
            served.loaded.remove(&version);
        });
    }

    /// Forgets a model that has been deleted. What answered finishes the requests that it has.
    pub(crate) fn remove(&self, model: &ModelName) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.remove(model);
            models
        });
        self.changes.send_replace(());
    }

    /// Changes one model, all others staying as they are.
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

/// A model's sessions, all alike, and what is known of the model.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) interface: ModelInterface,
    pub(crate) manifest: Arc<ArtifactManifest>,
    pub(crate) sessions: Vec<Session>,
    /// As estimated.
    pub(crate) memory_bytes: u64,
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

pub(crate) fn shorten(name: &str) -> String {
    let shown = name.chars().take(LONGEST_NAME);
    shown
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}
