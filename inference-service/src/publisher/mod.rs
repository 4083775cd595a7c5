//! Publishing: from an upload to a version that serves, and from one version to another.
//!
//! One change at a time. A change that began is carried out even if its caller hangs up, and whatever
//! fails in between, what served before goes on serving.

mod advice;
mod loading;
mod progress;
mod restore;
mod service;
mod swap;
mod upload;

use std::sync::Arc;

use artifacts::{
    manifest::ArtifactManifest,
    model_store::{ModelName, ModelStore, StoreError, StoredVersion},
};
use bytes::Bytes;
use tokio::{sync::Mutex, task};
use tracing::{info, warn};

use crate::{
    catalog::{Catalog, VersionState},
    config::{InferenceConfig, ModelConfig},
    error::PublishError,
};
use loading::Candidate;
use swap::{Source, Swap};
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
    /// The version that serves: `version`, unless the upload asked to keep another one.
    serving: u64,
}

/// A stored version and what it does.
#[derive(Debug)]
struct ListedVersion {
    model: ModelName,
    stored: StoredVersion,
    /// Whether it is the one that answers requests which name none, as far as the model answers.
    active: bool,
    state: VersionState,
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

    async fn publish(self: Arc<Self>, upload: Upload) -> Result<Published, PublishError> {
        let _change = self.change.lock().await;
        let Upload {
            model,
            onnx,
            manifest,
            keep_active,
        } = upload;
        if let Some(published) = self.serve_stored(&model, &manifest, keep_active).await? {
            return Ok(published);
        }
        let candidate = self.candidate(&model, onnx, Arc::new(manifest));
        let version = Swap::new(&self, &model)
            .run(Source::Upload(candidate))
            .await?;
        info!(%model, version, "published");
        Ok(Published {
            version,
            already_published: false,
            serving: version,
        })
    }

    /// Serves the version of which this upload is a repetition, if there is one that can be read; see
    /// [`ModelStore::find`]. With `keep_active`, another version that serves goes on serving, unless the
    /// publish of this one was cut off before its activation.
    async fn serve_stored(
        self: &Arc<Self>,
        model: &ModelName,
        manifest: &ArtifactManifest,
        keep_active: bool,
    ) -> Result<Option<Published>, PublishError> {
        let (name, manifest) = (model.clone(), manifest.clone());
        let find =
            move |store: &ModelStore| Ok((store.find(&name, &manifest)?, store.active(&name)?));
        let (same, active) = self.blocking(find).await?;
        let Some(version) = same else {
            return Ok(None);
        };
        let published = |serving| Published {
            version,
            already_published: true,
            serving,
        };
        let was_served = active.is_some_and(|active| active.newest_served >= version);
        match self.catalog.serving(model) {
            Some(serving) if serving == version => return Ok(Some(published(version))),
            Some(serving) if keep_active && was_served => return Ok(Some(published(serving))),
            _ => {}
        }
        match self.make_active(model, version).await {
            Ok(()) => {
                info!(%model, version, "activated: it was published again");
                Ok(Some(published(version)))
            }
            // Its files are not what was published; what has been uploaded is.
            Err(PublishError::Store(error)) if error.is_damage() => {
                warn!(%model, version, "published anew, for the stored version is damaged: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the version that served before, 0 for none.
    async fn activate(
        self: Arc<Self>,
        model: ModelName,
        version: u64,
    ) -> Result<u64, PublishError> {
        let _change = self.change.lock().await;
        let previous = self.catalog.serving(&model).unwrap_or(0);
        if previous != version {
            self.make_active(&model, version).await?;
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
        self.make_active(&model, version).await?;
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

    /// Deletes a model with all its versions, also while it answers: requests that it has are still
    /// answered. Returns the versions.
    async fn delete_model(self: Arc<Self>, model: ModelName) -> Result<Vec<u64>, PublishError> {
        let _change = self.change.lock().await;
        let name = model.clone();
        let versions = self.blocking(move |store| store.delete_model(&name));
        let versions = versions.await?;
        self.catalog.remove(&model);
        info!(%model, ?versions, "deleted with all its versions");
        Ok(versions)
    }

    /// All versions of `model`, or of every model; of each only `version`, where one is given.
    async fn list(
        self: Arc<Self>,
        model: Option<ModelName>,
        version: Option<u64>,
    ) -> Result<Vec<ListedVersion>, PublishError> {
        let catalog = Arc::clone(&self.catalog);
        self.blocking(move |store| {
            let mut listed = Vec::new();
            let served = catalog.models();
            for model in model.map_or_else(|| store.models(), |model| Ok(vec![model]))? {
                // The catalog says why where it cannot be read.
                let active = store.active(&model).ok().flatten();
                let active = active.map(|active| active.version);
                let stored = match version {
                    None => store.versions(&model)?,
                    Some(version) => store.stored(&model, version).into_iter().collect(),
                };
                let served = served.get(&model);
                listed.extend(stored.into_iter().map(|stored| ListedVersion {
                    model: model.clone(),
                    active: active == Some(stored.version),
                    state:
                        served.map_or_else(VersionState::default, |served| {
                            served.state(stored.version)
                        }),
                    stored,
                }));
            }
            Ok(listed)
        })
        .await
    }

    /// Makes a stored version the active one. The caller holds `change`.
    async fn make_active(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
    ) -> Result<(), PublishError> {
        Swap::new(self, model)
            .run(Source::Stored(version))
            .await
            .map(drop)
    }

    /// Whether `needed` bytes fit beside the loaded versions after `freed` bytes of these are unloaded.
    fn check_memory(&self, needed: u64, freed: u64) -> Result<(), PublishError> {
        let allowed = self.config.memory.max_model_bytes;
        let loaded = self.catalog.memory_bytes().saturating_sub(freed);
        if allowed > 0 && loaded.saturating_add(needed) > allowed {
            return Err(PublishError::Memory {
                needed,
                loaded,
                allowed,
            });
        }
        Ok(())
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
