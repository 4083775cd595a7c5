//! Which version of which model serves.

use std::{collections::BTreeMap, io, sync::Arc};

use arc_swap::ArcSwap;
use common::{
    manifest::ArtifactManifest,
    model_store::{ModelName, parse_version},
};
use onnx_runtime::{ModelInterface, Session};

use crate::{
    batcher::Batcher, config::BatchingConfig, error::InferenceError, metrics::Metrics,
    statistics::VersionStatistics,
};

/// Names that came over the wire are cut to this many characters in messages.
const LONGEST_NAME: usize = 64;

/// A version that is loaded and answers requests.
#[derive(Debug)]
pub(crate) struct LoadedVersion {
    pub(crate) model: ModelName,
    pub(crate) version: u64,
    pub(crate) interface: ModelInterface,
    /// What was published with the model.
    #[allow(dead_code)]
    pub(crate) manifest: Arc<ArtifactManifest>,
    pub(crate) batching: BatchingConfig,
    pub(crate) batcher: Batcher,
    pub(crate) statistics: Arc<VersionStatistics>,
}

/// All models, replaced as a whole: a request sees one state from beginning to end, and holds the
/// version it was routed to until it is answered.
#[derive(Debug)]
pub(crate) struct Catalog {
    models: ArcSwap<BTreeMap<ModelName, Arc<ServedModel>>>,
    metrics: Arc<Metrics>,
}

/// One model.
#[derive(Debug)]
pub(crate) struct ServedModel {
    pub(crate) active: Arc<LoadedVersion>,
    /// Of every version that has served since the process began.
    pub(crate) statistics: BTreeMap<u64, Arc<VersionStatistics>>,
}

impl Catalog {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            models: ArcSwap::default(),
            metrics,
        }
    }

    /// The version that answers a request for `model` and `version`, which is empty or the number
    /// of the version that serves.
    pub(crate) fn find(
        &self,
        model: &str,
        version: &str,
    ) -> Result<Arc<LoadedVersion>, InferenceError> {
        let models = self.models.load();
        let served = models.get(model).ok_or_else(|| no_such_model(model))?;
        let active = &served.active;
        if version.is_empty() || parse_version(version) == Some(active.version) {
            return Ok(Arc::clone(active));
        }
        Err(no_such_version(active, version))
    }

    /// The version of `model` that serves.
    pub(crate) fn active_version(&self, model: &ModelName) -> Option<u64> {
        let models = self.models.load();
        models.get(model).map(|served| served.active.version)
    }

    /// The models, by name, as they are now.
    pub(crate) fn models(&self) -> Arc<BTreeMap<ModelName, Arc<ServedModel>>> {
        self.models.load_full()
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
        sessions: Sessions,
        manifest: Arc<ArtifactManifest>,
        batching: BatchingConfig,
    ) -> io::Result<LoadedVersion> {
        let known = self.models.load().get(model).map(Arc::clone);
        let statistics = known
            .and_then(|served| served.statistics.get(&version).map(Arc::clone))
            .unwrap_or_else(|| {
                let histograms = self.metrics.histograms(model, version);
                Arc::new(VersionStatistics::new(histograms))
            });
        Ok(LoadedVersion {
            model: model.clone(),
            version,
            interface: sessions.interface,
            manifest,
            batching,
            batcher: Batcher::start(sessions.sessions, batching, &statistics)?,
            statistics,
        })
    }

    /// Lets `loaded` answer from now on, in place of the version before it, which finishes the
    /// requests that it has.
    pub(crate) fn serve(&self, loaded: LoadedVersion) {
        let loaded = Arc::new(loaded);
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            let before = models.get(&loaded.model);
            let mut statistics = before
                .map(|served| served.statistics.clone())
                .unwrap_or_default();
            statistics.insert(loaded.version, Arc::clone(&loaded.statistics));
            let served = ServedModel {
                active: Arc::clone(&loaded),
                statistics,
            };
            models.insert(loaded.model.clone(), Arc::new(served));
            models
        });
    }
}

/// A model's sessions, all alike.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) interface: ModelInterface,
    pub(crate) sessions: Vec<Session>,
}

pub(crate) fn no_such_model(model: &str) -> InferenceError {
    InferenceError::NoSuchModel {
        model: shorten(model),
    }
}

pub(crate) fn no_such_version(active: &LoadedVersion, requested: &str) -> InferenceError {
    InferenceError::NoSuchVersion {
        model: active.model.clone(),
        requested: shorten(requested),
        active: active.version,
    }
}

pub(crate) fn shorten(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}
