//! Publishing: from an upload to a version that serves, and from one version to another.
//!
//! One change at a time. A change that began is carried out even if its caller hangs up, and whatever
//! fails in between, the version before goes on serving.

mod loading;
mod service;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use common::{
    manifest::ArtifactManifest,
    model_store::{ModelName, ModelStore, StoreError, StoredVersion},
};
use tokio::{sync::Mutex, task};
use tracing::{error, info};

use crate::{
    catalog::{Catalog, Sessions},
    config::{BatchingConfig, InferenceConfig, PublishConfig, RuntimeConfig},
    error::PublishError,
};

pub(crate) use service::PublisherEdge;
use upload::Upload;

/// Changes which versions there are and which one serves.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: ModelStore,
    catalog: Arc<Catalog>,
    batching: BatchingConfig,
    runtime: RuntimeConfig,
    limits: PublishConfig,
    /// Held for the length of a change.
    change: Mutex<()>,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Published {
    version: u64,
    already_published: bool,
}

/// A stored version and whether it serves.
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
            batching: config.batching,
            runtime: config.runtime,
            limits: config.publish,
            change: Mutex::default(),
        }
    }

    /// Serves what served before the process ended. A model that cannot be loaded is reported and
    /// left out: the others are not to suffer.
    pub(crate) async fn restore(self: &Arc<Self>) -> Result<(), PublishError> {
        for model in self.blocking(|store| store.models()).await? {
            if let Err(error) = self.restore_model(&model).await {
                error!(%model, "the model does not serve: {error}");
            }
        }
        Ok(())
    }

    async fn restore_model(self: &Arc<Self>, model: &ModelName) -> Result<(), PublishError> {
        let name = model.clone();
        match self.blocking(move |store| store.active(&name)).await? {
            Some(active) => self.serve_stored(model, active.version).await,
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
        let sessions = self.prepare(onnx.clone(), Arc::clone(&manifest)).await?;
        let name = model.clone();
        let committed = Arc::clone(&manifest);
        let commit = move |store: &ModelStore| store.commit(&name, &onnx, &committed);
        let version = self.blocking(commit).await?;
        self.activate_loaded(&model, version, sessions, manifest)
            .await?;
        info!(%model, version, "published");
        Ok(Published {
            version,
            already_published: false,
        })
    }

    /// The version that holds the same file, if there is one. A version whose publish was cut off
    /// between its commit and its activation is activated now.
    async fn find_published(
        self: &Arc<Self>,
        model: &ModelName,
        manifest: &ArtifactManifest,
    ) -> Result<Option<u64>, PublishError> {
        let (name, sha256) = (model.clone(), manifest.onnx.sha256.clone());
        let find = move |store: &ModelStore| {
            let versions = store.versions(&name)?;
            let same = versions
                .into_iter()
                .find(|stored| stored.manifest.onnx.sha256 == sha256);
            Ok((same.map(|stored| stored.version), store.active(&name)?))
        };
        let (same, active) = self.blocking(find).await?;
        if let Some(version) = same
            && active.is_none_or(|active| active.newest_served < version)
        {
            self.serve_stored(model, version).await?;
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
            self.serve_stored(&model, version).await?;
            info!(%model, version, previous, "activated");
        }
        Ok(previous)
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
        info!(%model, version, "deleted");
        Ok(())
    }

    /// All versions of `model`, or of every model.
    async fn list(
        self: Arc<Self>,
        model: Option<ModelName>,
    ) -> Result<Vec<ListedVersion>, PublishError> {
        self.blocking(move |store| {
            let mut listed = Vec::new();
            for model in model.map_or_else(|| store.models(), |model| Ok(vec![model]))? {
                let active = store.active(&model)?.map(|active| active.version);
                listed.extend(
                    store
                        .versions(&model)?
                        .into_iter()
                        .map(|stored| ListedVersion {
                            model: model.clone(),
                            active: active == Some(stored.version),
                            stored,
                        }),
                );
            }
            Ok(listed)
        })
        .await
    }

    /// Loads and checks a stored version, then lets it serve.
    async fn serve_stored(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
    ) -> Result<(), PublishError> {
        let name = model.clone();
        let read = move |store: &ModelStore| {
            let manifest = store.manifest(&name, version)?;
            let onnx = store.onnx(&name, version, &manifest)?;
            Ok((Bytes::from(onnx), Arc::new(manifest)))
        };
        let (onnx, manifest) = self.blocking(read).await?;
        let sessions = self.prepare(onnx, Arc::clone(&manifest)).await?;
        self.activate_loaded(model, version, sessions, manifest)
            .await
    }

    /// The swap. What can fail comes before anything has changed.
    async fn activate_loaded(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
        sessions: Sessions,
        manifest: Arc<ArtifactManifest>,
    ) -> Result<(), PublishError> {
        let loaded = self
            .catalog
            .load(model, version, sessions, manifest, self.batching);
        let loaded = loaded.map_err(|error| {
            error!(%model, version, "cannot start the threads of a session: {error}");
            PublishError::Internal
        })?;
        let name = model.clone();
        self.blocking(move |store| store.activate(&name, version))
            .await?;
        self.catalog.serve(loaded);
        Ok(())
    }

    async fn prepare(
        &self,
        onnx: Bytes,
        manifest: Arc<ArtifactManifest>,
    ) -> Result<Sessions, PublishError> {
        let checks = loading::Checks {
            max_model_bytes: self.limits.max_model_bytes,
            max_batch_size: self.batching.max_batch_size,
            max_activation_bytes: self.limits.max_activation_bytes,
            runtime: self.runtime,
        };
        loading::prepare(onnx, manifest, checks, self.limits.load_timeout()).await
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
