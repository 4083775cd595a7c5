//! Publishes models and changes which of their versions serve.
//!
//! Changes run one at a time. A change that has begun is completed even if its caller disconnects. If it
//! fails, the versions that served before continue to serve. If other processes change the store too, `follow` serves
//! what they activate.

mod canary;
mod failure;
mod follow;
mod loading;
mod progress;
mod reference;
mod restore;
mod signatures;
mod store_polls;
mod swap;
mod warnings;

use std::sync::Arc;

use artifacts::{
    manifest::ArtifactManifest,
    model_store::{ModelName, ModelStore, SignedManifest, StoreError, StoredVersion},
};
use bytes::Bytes;
use tokio::{sync::Mutex, task};
use tracing::{error, info, warn};

use crate::{
    canary::Trial,
    catalog::{Catalog, LoadFailure, VersionState},
    config::{InferenceConfig, ModelConfig, PublishConfig},
    error::PublishError,
};
use loading::Candidate;
use swap::{Source, Swap};

pub use loading::warm_up;
pub(crate) use signatures::SignaturePolicy;
pub(crate) use store_polls::StorePolls;

/// Changes the stored versions and those that serve.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Box<dyn ModelStore>,
    catalog: Arc<Catalog>,
    config: InferenceConfig,
    signatures: SignaturePolicy,
    polls: Arc<StorePolls>,
    /// Locked during a change.
    change: Mutex<()>,
}

/// An uploaded model, whose bytes match its header and its manifest.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) model: ModelName,
    pub(crate) onnx: Bytes,
    pub(crate) manifest: ArtifactManifest,
    /// `None` if the model is not signed.
    pub(crate) signed: Option<SignedManifest>,
    /// If this model is stored already, keep the version that serves.
    pub(crate) keep_active: bool,
    /// If the version is a canary, its share of the requests; `None` for `canary.share`.
    pub(crate) canary_share: Option<f64>,
}

/// The outcome of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) version: u64,
    pub(crate) already_published: bool,
    /// The version that serves: `version`, unless the upload kept another one or `version` is a canary.
    pub(crate) serving: u64,
    /// Whether `version` is a canary beside the version that serves.
    pub(crate) is_canary: bool,
}

/// A stored version and its state.
#[derive(Debug)]
pub(crate) struct ListedVersion {
    pub(crate) model: ModelName,
    pub(crate) stored: StoredVersion,
    /// Whether it is the active version, according to the store.
    pub(crate) active: bool,
    pub(crate) state: VersionState,
    /// Its newest trial as a canary.
    pub(crate) trial: Option<Arc<Trial>>,
}

/// Runs a change as a task of the caller's trace, so that it is completed even if its caller disconnects.
///
/// # Errors
/// The error of the change, or [`PublishError::Internal`] if it panics.
pub(crate) async fn run_to_completion<T: Send + 'static>(
    change: impl Future<Output = Result<T, PublishError>> + Send + 'static,
) -> Result<T, PublishError> {
    let done = tokio::spawn(traces::carried(change)).await;
    done.map_err(|_| PublishError::Internal)?
}

impl Publisher {
    pub(crate) fn new(
        store: Box<dyn ModelStore>,
        catalog: Arc<Catalog>,
        config: &InferenceConfig,
        signatures: SignaturePolicy,
    ) -> Self {
        Self {
            store,
            catalog,
            config: config.clone(),
            signatures,
            polls: Arc::default(),
            change: Mutex::default(),
        }
    }

    /// The looks at a store that other processes change.
    pub(crate) fn polls(&self) -> Arc<StorePolls> {
        Arc::clone(&self.polls)
    }

    /// The limits on uploads.
    pub(crate) fn limits(&self) -> &PublishConfig {
        &self.config.publish
    }

    /// Checks, loads and stores a model, and makes it the active version, or a canary beside the version that serves.
    pub(crate) async fn publish(
        self: Arc<Self>,
        upload: Upload,
    ) -> Result<Published, PublishError> {
        self.store.check_writable()?;
        let _change = self.change.lock().await;
        let canary = self.canary_place(&upload);
        let Upload {
            model,
            onnx,
            manifest,
            signed,
            keep_active,
            canary_share: _,
        } = upload;
        let candidate = self.candidate(&model, onnx, manifest, signed)?;
        if let Some(place) = canary {
            let published = self.publish_canary(model, candidate, place, keep_active);
            return published.await;
        }
        let stored = self.serve_stored(&model, &candidate.manifest, keep_active);
        if let Some(published) = stored.await? {
            return Ok(published);
        }
        let version = Swap::new(&self, &model)
            .run(Source::Upload(candidate))
            .await?;
        info!(%model, version, "published");
        Ok(Published {
            version,
            already_published: false,
            serving: version,
            is_canary: false,
        })
    }

    /// If the same model is stored already and can be read, serves that version; see
    /// [`ModelStore::find`]. With `keep_active`, another version that serves is kept, unless the stored version
    /// was never activated because its publish was interrupted.
    async fn serve_stored(
        self: &Arc<Self>,
        model: &ModelName,
        manifest: &ArtifactManifest,
        keep_active: bool,
    ) -> Result<Option<Published>, PublishError> {
        let (name, manifest) = (model.clone(), manifest.clone());
        let find =
            move |store: &dyn ModelStore| Ok((store.find(&name, &manifest)?, store.active(&name)?));
        let (same, active) = self.blocking(find).await?;
        let Some(version) = same else {
            return Ok(None);
        };
        let published = |serving| Published {
            version,
            already_published: true,
            serving,
            is_canary: false,
        };
        let was_served = active.is_some_and(|active| active.newest_served >= version);
        let is_active = active.is_some_and(|active| active.version == version);
        match self.catalog.serving(model) {
            Some(serving) if serving == version && is_active => {
                return Ok(Some(published(version)));
            }
            Some(serving) if keep_active && was_served => return Ok(Some(published(serving))),
            _ => {}
        }
        match self.make_active(model, version).await {
            Ok(()) => {
                info!(%model, version, "activated: it was published again");
                Ok(Some(published(version)))
            }
            // The stored files are damaged, but the upload is complete.
            Err(PublishError::Store(error)) if error.is_damage() => {
                warn!(%model, version, "published as a new version, because the stored version is damaged: {error}");
                Ok(None)
            }
            // The signature of the upload is accepted.
            Err(error @ (PublishError::Unsigned | PublishError::Signature(_))) => {
                warn!(%model, version, "published as a new version, because the stored version is refused: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a stored version the active one. Returns the version that served before, or 0. If it served before, the
    /// trial of a canary ends.
    pub(crate) async fn activate(
        self: Arc<Self>,
        model: ModelName,
        version: u64,
    ) -> Result<u64, PublishError> {
        let _change = self.change.lock().await;
        let previous = self.catalog.serving(&model).unwrap_or(0);
        let name = model.clone();
        // Another process may have activated a version that this one does not serve yet.
        let active = self.blocking(move |store| store.active(&name)).await?;
        let ends_trial = previous == version && self.catalog.trial(&model).is_some();
        if ends_trial {
            self.catalog.end_trial(&model);
        }
        let is_active = active.is_some_and(|active| active.version == version);
        if previous != version || !is_active || ends_trial {
            self.make_active(&model, version).await?;
            info!(%model, version, previous, "activated");
        }
        Ok(previous)
    }

    /// Loads a model: `version` if given, otherwise the active version, otherwise the newest.
    pub(crate) async fn load(
        self: Arc<Self>,
        model: ModelName,
        version: Option<u64>,
    ) -> Result<(), PublishError> {
        let _change = self.change.lock().await;
        let name = model.clone();
        let choose = move |store: &dyn ModelStore| match (version, store.active(&name)?) {
            (Some(version), _) => Ok(Some(Source::Stored(version))),
            (None, Some(active)) => Ok(Some(Source::Active(active.version))),
            (None, None) => {
                let newest = store.version_numbers(&name)?.last().copied();
                Ok(newest.map(Source::Stored))
            }
        };
        let source = self.blocking(choose).await?;
        let source = source.ok_or_else(|| PublishError::NothingStored {
            model: model.clone(),
        })?;
        let version = Swap::new(&self, &model).run(source).await?;
        info!(%model, version, "loaded");
        Ok(())
    }

    /// Unloads all versions of the model, until it is loaded again or the service restarts.
    pub(crate) async fn unload(self: Arc<Self>, model: ModelName) -> Result<(), PublishError> {
        let _change = self.change.lock().await;
        if self.catalog.models().get(&model).is_none() {
            return Err(PublishError::NothingStored { model });
        }
        self.catalog.unload(&model);
        info!(%model, "unloaded");
        Ok(())
    }

    /// Deletes a version that is not active.
    pub(crate) async fn delete(
        self: Arc<Self>,
        model: ModelName,
        version: u64,
    ) -> Result<(), PublishError> {
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

    /// Deletes a model with all its versions, even while it serves: its current requests are still answered.
    /// Returns the versions.
    pub(crate) async fn delete_model(
        self: Arc<Self>,
        model: ModelName,
    ) -> Result<Vec<u64>, PublishError> {
        let _change = self.change.lock().await;
        let name = model.clone();
        let versions = self.blocking(move |store| store.delete_model(&name));
        let versions = versions.await?;
        self.catalog.remove(&model);
        info!(%model, ?versions, "deleted with all its versions");
        Ok(versions)
    }

    /// Lists the versions of `model` or of all models, optionally only those with the number `version`.
    pub(crate) async fn list(
        self: Arc<Self>,
        model: Option<ModelName>,
        version: Option<u64>,
    ) -> Result<Vec<ListedVersion>, PublishError> {
        let catalog = Arc::clone(&self.catalog);
        self.blocking(move |store| {
            let mut listed = Vec::new();
            let served = catalog.models();
            for model in model.map_or_else(|| store.models(), |model| Ok(vec![model]))? {
                // If active.json cannot be read, the catalog has the reason.
                let active = store.active(&model).ok().flatten();
                let active = active.map(|active| active.version);
                let stored = match version {
                    None => store.versions(&model)?,
                    Some(version) => store.stored(&model, version)?.into_iter().collect(),
                };
                let served = served.get(&model);
                listed.extend(stored.into_iter().map(|stored| ListedVersion {
                    model: model.clone(),
                    active: active == Some(stored.version),
                    state:
                        served.map_or_else(VersionState::default, |served| {
                            served.state(stored.version)
                        }),
                    trial: served.and_then(|served| served.trials.get(&stored.version).cloned()),
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

    /// Reports that a model does not answer although it should.
    fn fail(&self, model: &ModelName, version: Option<u64>, error: &PublishError) {
        let failure = LoadFailure::from(error);
        let retried = failure.transient;
        error!(%model, version, retried, "the model does not serve: {error}");
        self.catalog.fail(model, version, &failure);
    }

    /// A model whose signature is accepted. The SHA-256 of `onnx` is that in `manifest`.
    fn candidate(
        &self,
        model: &ModelName,
        onnx: Bytes,
        manifest: ArtifactManifest,
        signed: Option<SignedManifest>,
    ) -> Result<Candidate, PublishError> {
        self.signatures.check(&manifest, signed.as_ref())?;
        Ok(Candidate {
            onnx,
            manifest: Arc::new(manifest),
            signed: signed.map(Arc::new),
            limits: self.config.publish,
            config: self.model_config(model),
        })
    }

    fn model_config(&self, model: &ModelName) -> Arc<ModelConfig> {
        Arc::new(self.config.model(model.as_str()))
    }

    /// Runs `work`, which accesses files, on a blocking thread.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&dyn ModelStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, PublishError> {
        let publisher = Arc::clone(self);
        let done = task::spawn_blocking(move || work(&*publisher.store)).await;
        Ok(done.map_err(|_| PublishError::Internal)??)
    }
}
