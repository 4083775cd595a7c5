//! From the versions that serve to others: what to load, whether there is room for it, and the swap.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifacts::model_store::{ModelName, ModelStore, StoreError};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use super::{
    Publisher,
    loading::{Candidate, Checked},
};
use crate::{
    catalog::{Catalog, LoadFailure, LoadedVersion, Prepared},
    config::{MemoryConfig, SwapPolicy},
    error::PublishError,
};

/// How often it is looked whether unloaded sessions are gone.
const UNLOAD_POLL: Duration = Duration::from_millis(2);

impl Publisher {
    /// Loads a version that is not in the store yet, stores it by `commit`, and makes it the active
    /// one. Returns its number.
    pub(super) async fn publish_loaded(
        self: &Arc<Self>,
        model: &ModelName,
        candidate: Candidate,
        commit: impl FnOnce(&ModelStore) -> Result<u64, StoreError> + Send + 'static,
    ) -> Result<u64, PublishError> {
        let checked = candidate.check().await?;
        let before = self.make_room(model, &checked).await?;
        let swapped = async {
            let prepared = checked.load().await?;
            let version = self.blocking(commit).await?;
            let loaded = self.start(model, version, prepared)?;
            self.make_active(model, version, Some(loaded)).await?;
            Ok(version)
        };
        let swapped = swapped.await;
        if swapped.is_err() {
            self.put_back(model, before).await;
        }
        swapped
    }

    /// Whether a model could be published, as far as that can be known without loading it.
    pub(super) async fn check_candidate(&self, candidate: Candidate) -> Result<(), PublishError> {
        let checked = candidate.check().await?;
        // What is loaded now may be gone by then.
        self.check_room(checked.memory_bytes, u64::MAX)
    }

    /// Makes a stored version the active one, `fresh` being itself where it is loaded already, and
    /// lets those of the others answer that the model's policy asks for. What can fail of the active
    /// one comes before anything has changed; another one that fails is left out.
    pub(super) async fn make_active(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
        fresh: Option<Arc<LoadedVersion>>,
    ) -> Result<(), PublishError> {
        let name = model.clone();
        let stored = self.blocking(move |store| store.version_numbers(&name));
        let stored = stored.await?;
        let config = self.model_config(model);
        let selected = config.version_policy.select(&stored, version);
        let mut stored: BTreeMap<_, _> = stored.into_iter().map(|number| (number, None)).collect();

        let mut before = None;
        let already = fresh.or_else(|| self.catalog.answering(model).remove(&version));
        let active = match already {
            Some(loaded) => loaded,
            None => {
                let _loading = Loading::begin(&self.catalog, model, version);
                let checked = self.stored_candidate(model, version).await?.check().await?;
                before = self.make_room(model, &checked).await?;
                let prepared = checked.load().await;
                match prepared.and_then(|prepared| self.start(model, version, prepared)) {
                    Ok(started) => started,
                    Err(error) => {
                        self.put_back(model, before).await;
                        return Err(error);
                    }
                }
            }
        };
        let name = model.clone();
        let activated = self.blocking(move |store| store.activate(&name, version));
        if let Err(error) = activated.await {
            self.put_back(model, before).await;
            return Err(error);
        }
        // Only now: what is held here is not unloaded to make room.
        let mut loaded = self.catalog.answering(model);
        loaded.insert(version, active);
        loaded.retain(|version, _| selected.contains(version));
        self.catalog
            .serve(model, version, loaded.clone(), stored.clone());

        let missing = selected.iter().filter(|other| !loaded.contains_key(other));
        for other in missing.copied().collect::<Vec<_>>() {
            match self.load_beside(model, other).await {
                Ok(started) => _ = loaded.insert(other, started),
                Err(error) => {
                    warn!(%model, version = other, "the version does not serve: {error}");
                    stored.insert(other, Some(LoadFailure::of(&error)));
                }
            }
            self.catalog
                .serve(model, version, loaded.clone(), stored.clone());
        }
        Ok(())
    }

    /// Loads a stored version beside those that serve; nothing is unloaded for it.
    async fn load_beside(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
    ) -> Result<Arc<LoadedVersion>, PublishError> {
        let checked = self.stored_candidate(model, version).await?.check().await?;
        self.check_room(checked.memory_bytes, 0)?;
        self.start(model, version, checked.load().await?)
    }

    async fn stored_candidate(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
    ) -> Result<Candidate, PublishError> {
        let name = model.clone();
        let read = move |store: &ModelStore| {
            let manifest = store.manifest(&name, version)?;
            let onnx = store.onnx(&name, version, &manifest)?;
            Ok((Bytes::from(onnx), Arc::new(manifest)))
        };
        let (onnx, manifest) = self.blocking(read).await?;
        Ok(self.candidate(model, onnx, manifest))
    }

    fn start(
        &self,
        model: &ModelName,
        version: u64,
        prepared: Prepared,
    ) -> Result<Arc<LoadedVersion>, PublishError> {
        let config = self.model_config(model);
        let started = self.catalog.load(model, version, prepared, config);
        started.map_err(|error| {
            error!(%model, version, "cannot start the threads of a session: {error}");
            PublishError::Internal
        })
    }

    /// Makes sure that there is memory for `checked`: by unloading the model's versions, if need be
    /// and if the configuration says so. Returns the active one then.
    async fn make_room(
        self: &Arc<Self>,
        model: &ModelName,
        checked: &Checked,
    ) -> Result<Option<u64>, PublishError> {
        let Err(refused) = self.check_room(checked.memory_bytes, 0) else {
            return Ok(None);
        };
        let loaded = self.catalog.loaded(model);
        let of_the_model = loaded.values().map(|version| version.memory_bytes).sum();
        drop(loaded);
        if self.config.memory.on_swap == SwapPolicy::Refuse {
            return Err(refused);
        }
        self.check_room(checked.memory_bytes, of_the_model)?;
        let active = self.catalog.serving(model);
        let sessions = self.catalog.vacate(model);
        let deadline = Instant::now() + self.config.shutdown.drain();
        while sessions.iter().any(|session| session.strong_count() > 0) {
            if Instant::now() > deadline {
                warn!(%model, "requests keep unloaded sessions busy");
                break;
            }
            sleep(UNLOAD_POLL).await;
        }
        Ok(active)
    }

    /// Whether `needed` bytes fit beside what is loaded when `freed` of those are unloaded.
    fn check_room(&self, needed: u64, freed: u64) -> Result<(), PublishError> {
        let MemoryConfig {
            max_model_bytes, ..
        } = self.config.memory;
        let loaded = self.catalog.memory_bytes().saturating_sub(freed);
        match max_model_bytes > 0 && loaded.saturating_add(needed) > max_model_bytes {
            false => Ok(()),
            true => Err(PublishError::Memory {
                needed,
                loaded,
                allowed: max_model_bytes,
            }),
        }
    }

    /// Serves the version again that was unloaded for one which then failed.
    ///
    /// Boxed, for it calls [`make_active`](Self::make_active), which calls it; not for ever, as
    /// nothing is loaded of the model that could be unloaded again.
    fn put_back<'p>(
        self: &'p Arc<Self>,
        model: &'p ModelName,
        version: Option<u64>,
    ) -> BoxFuture<'p, ()> {
        Box::pin(async move {
            let Some(version) = version else {
                return;
            };
            if let Err(error) = self.make_active(model, version, None).await {
                self.fail(model, Some(version), &error);
            }
        })
    }
}

/// While it lives, the catalog says that a version is being loaded.
struct Loading<'c> {
    catalog: &'c Catalog,
    model: &'c ModelName,
}

impl<'c> Loading<'c> {
    fn begin(catalog: &'c Catalog, model: &'c ModelName, version: u64) -> Self {
        catalog.loading(model, Some(version));
        Self { catalog, model }
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.catalog.loading(self.model, None);
    }
}
