//! Publishing: from an upload to a version that serves, and from one version to another.
//!
//! One change at a time. A change that began is carried out even if its caller hangs up, and whatever
//! fails in between, what served before goes on serving.

mod advice;
mod loading;
mod progress;
mod service;
mod swap;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use common::{
    manifest::ArtifactManifest,
    model_store::{ModelName, ModelStore, StoreError, StoredVersion},
};
use tokio::{sync::Mutex, task};
use tracing::{error, info, warn};

use crate::{
    catalog::Catalog,
    config::{InferenceConfig, ModelConfig},
    error::PublishError,
};
use loading::Candidate;
use progress::Progress;
use upload::Upload;

pub(crate) use loading::warm_up;
pub(crate) use service::{PublisherEdge, to_the_end};

/// Changes which versions there are and which ones serve.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: ModelStore,
    catalog: Arc<Catalog>,
    config: InferenceConfig,
    /// Held for the length of a change.
    change: Mutex<()>,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Published {
    version: u64,
    already_published: bool,
}

/// A stored version and whether it is the active one.
#[derive(Debug)]
struct ListedVersion {
    model: ModelName,
    stored: StoredVersion,
    active: bool,
}

impl Publisher {
    pub(crate) fn new(store: ModelStore, catalog: Arc<Catalog>, config: &InferenceConfig) -> Self {
        Self {
            store,
            catalog,
            config: config.clone(),
            change: Mutex::default(),
        }
    }

    /// Serves what served before the process ended, or what was committed after that by a publish which
    /// was cut off before its activation. A model that cannot be loaded is reported and
    /// left out: the others are not to suffer.
    pub(crate) async fn restore(self: &Arc<Self>) -> Result<(), PublishError> {
        let _change = self.change.lock().await;
        let models = self.blocking(|store| store.models()).await?;
        for name in self.config.models.keys() {
            if !models.iter().any(|model| model.as_str() == name) {
                warn!(
                    "[models.{name}] is configured, and no model of that name is stored; it holds once \
                     one is published"
                );
            }
        }
        let mut progress = Progress::of(models.len());
        for model in models {
            let restored = progress.watch(&model, self.restore_model(&model)).await;
            if let Err(error) = restored {
                error!(%model, "the model does not serve: {error}");
                self.catalog.fail(&model, &error.to_string());
            }
        }
        Ok(())
    }

    async fn restore_model(self: &Arc<Self>, model: &ModelName) -> Result<(), PublishError> {
        let name = model.clone();
        let stored = self
            .blocking({
                let name = model.clone();
                move |store| store.version_numbers(&name)
            })
            .await?;
        self.catalog.store(model, &stored);
        let active = self.blocking(move |store| store.active(&name)).await?;
        // It passed every check before it was committed; only its activation was cut off.
        let newest_served = active.map_or(0, |active| active.newest_served);
        if let Some(newest) = stored.last().filter(|newest| **newest > newest_served) {
            match self.make_active(model, *newest, None).await {
                Ok(()) => return Ok(()),
                Err(error) => warn!(%model, version = *newest, "cannot be activated: {error}"),
            }
        }
        match active {
            Some(active) => self.make_active(model, active.version, None).await,
            None => Ok(()),
        }
    }

    async fn publish(self: Arc<Self>, upload: Upload) -> Result<Published, PublishError> {
        let _change = self.change.lock().await;
        let Upload {
            model,
            onnx,
            manifest,
        } = upload;
        if let Some(version) = self.find_published(&model, &manifest).await? {
            return Ok(Published {
                version,
                already_published: true,
            });
        }
        let manifest = Arc::new(manifest);
        let candidate = self.candidate(&model, onnx.clone(), Arc::clone(&manifest));
        let commit = {
            let name = model.clone();
            move |store: &ModelStore| store.commit(&name, &onnx, &manifest)
        };
        let version = self.publish_loaded(&model, candidate, commit).await?;
        info!(%model, version, "published");
        Ok(Published {
            version,
            already_published: false,
        })
    }

    /// The version of which this is a repetition, if there is one; see [`ModelStore::find`]. A version
    /// whose publish was cut off between its commit and its activation is activated now.
    async fn find_published(
        self: &Arc<Self>,
        model: &ModelName,
        manifest: &ArtifactManifest,
    ) -> Result<Option<u64>, PublishError> {
        let (name, manifest) = (model.clone(), manifest.clone());
        let find =
            move |store: &ModelStore| Ok((store.find(&name, &manifest)?, store.active(&name)?));
        let (same, active) = self.blocking(find).await?;
        if let Some(version) = same
            && active.is_none_or(|active| active.newest_served < version)
        {
            self.make_active(model, version, None).await?;
        }
        Ok(same)
    }

    /// Returns the version that served before, 0 for none.
    async fn activate(
        self: Arc<Self>,
        model: ModelName,
        version: u64,
    ) -> Result<u64, PublishError> {
        let _change = self.change.lock().await;
        let previous = self.catalog.active_version(&model).unwrap_or(0);
        if previous != version {
            self.make_active(&model, version, None).await?;
            info!(%model, version, previous, "activated");
        }
        Ok(previous)
    }

    /// Makes a model answer again: by `version`, else by its active version, else by its newest.
    pub(crate) async fn load(
        self: Arc<Self>,
        model: ModelName,
        version: Option<u64>,
    ) -> Result<(), PublishError> {
        let _change = self.change.lock().await;
        let name = model.clone();
        let choose = move |store: &ModelStore| match (version, store.active(&name)?) {
            (Some(version), _) => Ok(Some(version)),
            (None, Some(active)) => Ok(Some(active.version)),
            (None, None) => Ok(store.version_numbers(&name)?.last().copied()),
        };
        let version = self.blocking(choose).await?;
        let version = version.ok_or_else(|| PublishError::NothingStored {
            model: model.clone(),
        })?;
        self.make_active(&model, version, None).await?;
        info!(%model, version, "loaded");
        Ok(())
    }

    /// Lets no version of the model answer until it is loaded again, or the service is started again.
    pub(crate) async fn unload(self: Arc<Self>, model: ModelName) -> Result<(), PublishError> {
        let _change = self.change.lock().await;
        if self.catalog.models().get(&model).is_none() {
            return Err(PublishError::NothingStored { model });
        }
        self.catalog.unload(&model);
        info!(%model, "unloaded");
        Ok(())
    }

    async fn delete(self: Arc<Self>, model: ModelName, version: u64) -> Result<(), PublishError> {
        let _change = self.change.lock().await;
        let name = model.clone();
        let active = self.blocking(move |store| store.active(&name)).await?;
        if active.is_some_and(|active| active.version == version) {
            return Err(PublishError::VersionActive { model, version });
        }
        let name = model.clone();
        self.blocking(move |store| store.delete(&name, version))
            .await?;
        self.catalog.forget(&model, version);
        info!(%model, version, "deleted");
        Ok(())
    }

    /// All versions of `model`, or of every model; of each only `version`, where one is given.
    async fn list(
        self: Arc<Self>,
        model: Option<ModelName>,
        version: Option<u64>,
    ) -> Result<Vec<ListedVersion>, PublishError> {
        self.blocking(move |store| {
            let mut listed = Vec::new();
            for model in model.map_or_else(|| store.models(), |model| Ok(vec![model]))? {
                let active = store.active(&model)?.map(|active| active.version);
                let stored = match version {
                    None => store.versions(&model)?,
                    Some(version) => store.stored(&model, version).into_iter().collect(),
                };
                listed.extend(stored.into_iter().map(|stored| ListedVersion {
                    model: model.clone(),
                    active: active == Some(stored.version),
                    stored,
                }));
            }
            Ok(listed)
        })
        .await
    }

    fn candidate(
        &self,
        model: &ModelName,
        onnx: Bytes,
        manifest: Arc<ArtifactManifest>,
    ) -> Candidate {
        Candidate {
            onnx,
            manifest,
            limits: self.config.publish,
            config: self.model_config(model),
        }
    }

    fn model_config(&self, model: &ModelName) -> Arc<ModelConfig> {
        Arc::new(self.config.model(model.as_str()))
    }

    /// Runs `work`, which reads or writes files, off the async threads.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&ModelStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, PublishError> {
        let publisher = Arc::clone(self);
        let done = task::spawn_blocking(move || work(&publisher.store)).await;
        Ok(done.map_err(|_| PublishError::Internal)??)
    }
}
