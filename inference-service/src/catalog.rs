//! Which versions of which models serve.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use common::{
    manifest::ArtifactManifest,
    model_store::{ModelName, parse_version},
};
use onnx_runtime::{ModelInterface, Session};

use crate::{
    batcher::Batcher, config::ModelConfig, error::InferenceError, statistics::VersionStatistics,
};

/// Names that came over the wire are cut to this many characters in messages.
const LONGEST_NAME: usize = 64;

/// Versions that serve no more and are still in the statistics, at most; the newest ones.
const REMEMBERED_VERSIONS: usize = 16;

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
}

/// One model.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServedModel {
    /// The version that answers requests which name none; it is among the loaded ones. `None` while
    /// the model is unloaded.
    pub(crate) active: Option<u64>,
    /// Every version that answers.
    pub(crate) loaded: BTreeMap<u64, Arc<LoadedVersion>>,
    /// Every version in the store, with the reason where one should be loaded and cannot be.
    pub(crate) stored: BTreeMap<u64, Option<String>>,
    /// Of every version that serves, and of the newest that have served since the process began.
    pub(crate) statistics: BTreeMap<u64, Arc<VersionStatistics>>,
}

impl ServedModel {
    pub(crate) fn active(&self) -> Option<&Arc<LoadedVersion>> {
        self.loaded.get(&self.active?)
    }

    /// A service that is published to for years must not remember every version.
    fn forget_old_statistics(&mut self, loaded: &BTreeMap<u64, Arc<LoadedVersion>>) {
        let others = self.statistics.keys().rev();
        let others = others.filter(|version| !loaded.contains_key(version));
        let old: Vec<u64> = others.copied().skip(REMEMBERED_VERSIONS).collect();
        for version in old {
            self.statistics.remove(&version);
        }
    }
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
    pub(crate) fn active_version(&self, model: &ModelName) -> Option<u64> {
        self.models.load().get(model)?.active
    }

    /// The versions of `model` that answer.
    pub(crate) fn loaded(&self, model: &ModelName) -> BTreeMap<u64, Arc<LoadedVersion>> {
        let models = self.models.load();
        models
            .get(model)
            .map(|served| served.loaded.clone())
            .unwrap_or_default()
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
            batcher: Batcher::start(prepared.sessions, &config, &statistics)?,
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
        active: Option<u64>,
        loaded: BTreeMap<u64, Arc<LoadedVersion>>,
        stored: BTreeMap<u64, Option<String>>,
    ) {
        self.change(model, |served| {
            let statistics = loaded
                .iter()
                .map(|(version, loaded)| (*version, Arc::clone(&loaded.statistics)));
            served.statistics.extend(statistics);
            served.forget_old_statistics(&loaded);
            served.active = active;
            served.loaded = loaded.clone();
            served.stored = stored.clone();
        });
    }

    /// Lets no version of `model` answer any more. Returns what is dead when all of them have been
    /// unloaded.
    pub(crate) fn unload(&self, model: &ModelName) -> Vec<Weak<()>> {
        let loaded = self.loaded(model);
        self.change(model, |served| {
            served.active = None;
            served.loaded.clear();
        });
        let sessions = loaded.values().map(|version| version.batcher.sessions());
        sessions.collect()
    }

    /// Notes which versions of a model are in the store, while none of them answers.
    pub(crate) fn store(&self, model: &ModelName, stored: &[u64]) {
        self.change(model, |served| {
            served.stored = stored.iter().map(|version| (*version, None)).collect();
        });
    }

    /// Notes why no version of a model answers.
    pub(crate) fn fail(&self, model: &ModelName, reason: &str) {
        self.change(model, |served| {
            let reasons = served.stored.values_mut();
            reasons.for_each(|stored| *stored = Some(reason.to_owned()));
        });
    }

    /// Forgets a version that has been deleted.
    pub(crate) fn forget(&self, model: &ModelName, version: u64) {
        self.change(model, |served| {
            served.stored.remove(&version);
            served.loaded.remove(&version);
        });
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
