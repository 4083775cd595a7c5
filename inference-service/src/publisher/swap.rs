//! One change of the versions of a model that answer: prepare, commit, retire, or roll back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifacts::model_store::{ActiveVersion, ModelName, ModelStore, StoreError};
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use traces::Span;
use tracing::{error, warn};

use super::{
    Publisher,
    loading::{Candidate, Checked},
};
use crate::{
    catalog::{Catalog, LoadFailure},
    config::SwapPolicy,
    error::PublishError,
    loaded_version::{LoadedVersion, Prepared},
};

/// How often a swap checks whether unloaded sessions have ended.
const UNLOAD_POLL: Duration = Duration::from_millis(2);

/// Where the new active version comes from.
pub(super) enum Source {
    /// An upload. The swap stores it as a new version once it is loaded.
    Upload(Candidate),
    /// A version in the store.
    Stored(u64),
    /// The version that is active in the store.
    Active(u64),
}

/// What a commit writes to the store.
#[derive(Clone, Copy)]
enum Activation {
    /// `active.json`, if it is still `before`.
    Replace { before: Option<ActiveVersion> },
    /// Nothing: the version is active there.
    Done,
}

/// Replaces the versions of one model that answer.
///
/// A swap loads the new active version (`prepare`), writes `active.json` if the version is not active there, and routes
/// requests to the version (`commit`), then unloads the versions that the model's policy does not keep and loads those
/// that it adds (`retire`). If a step before the commit fails, the old versions continue to answer; if `prepare` unloaded
/// them to make room, `roll_back` loads the old active version again.
pub(super) struct Swap<'p> {
    publisher: &'p Arc<Publisher>,
    model: &'p ModelName,
    /// The old active version, if it was unloaded to make room.
    unloaded: Option<u64>,
}

impl<'p> Swap<'p> {
    pub(super) fn new(publisher: &'p Arc<Publisher>, model: &'p ModelName) -> Self {
        Self {
            publisher,
            model,
            unloaded: None,
        }
    }

    /// Makes the version from `source` the active one and returns its number.
    ///
    /// # Errors
    /// The failure of the new active version. A version that the policy adds and that cannot be loaded is
    /// reported in the catalog.
    pub(super) async fn run(self, source: Source) -> Result<u64, PublishError> {
        let activation = self.activation(&source).await?;
        self.swap(source, activation).await
    }

    /// [`run`](Self::run), if the active version in the store is still `before`.
    pub(super) async fn run_after(
        self,
        before: ActiveVersion,
        source: Source,
    ) -> Result<u64, PublishError> {
        let before = Some(before);
        self.swap(source, Activation::Replace { before }).await
    }

    async fn swap(mut self, source: Source, activation: Activation) -> Result<u64, PublishError> {
        let swapped = self.prepare_and_commit(source, activation).await;
        if swapped.is_err() {
            self.roll_back().await;
        }
        swapped
    }

    async fn prepare_and_commit(
        &mut self,
        source: Source,
        activation: Activation,
    ) -> Result<u64, PublishError> {
        let is_upload = matches!(source, Source::Upload(_));
        let active = self.prepare(source).await?;
        let version = active.version;
        let committed = self.commit(active, activation).await;
        if let Err(PublishError::Store(StoreError::Changed { .. })) = committed
            && is_upload
        {
            self.withdraw(version).await;
        }
        committed.map(|()| version)
    }

    /// Reads what the new version replaces, before the time that it takes to load it.
    async fn activation(&self, source: &Source) -> Result<Activation, PublishError> {
        if matches!(source, Source::Active(_)) {
            return Ok(Activation::Done);
        }
        let name = self.model.clone();
        let before = self.publisher.blocking(move |store| store.active(&name));
        let before = before.await?;
        Ok(Activation::Replace { before })
    }

    /// Loads the new active version, unless it is loaded already.
    async fn prepare(&mut self, source: Source) -> Result<Arc<LoadedVersion>, PublishError> {
        match source {
            Source::Upload(candidate) => {
                let (onnx, manifest) = (candidate.onnx.clone(), Arc::clone(&candidate.manifest));
                let signed = candidate.signed.clone();
                let prepared = self.load(candidate).await?;
                let name = self.model.clone();
                let store = move |store: &dyn ModelStore| {
                    store.commit_upload(&name, &onnx, &manifest, signed.as_deref())
                };
                let store = self.publisher.blocking(store);
                let version = Span::begin("store model").around(store).await?;
                self.start(version, prepared)
            }
            Source::Stored(version) | Source::Active(version) => {
                let loaded = self.catalog().answering(self.model).remove(&version);
                if let Some(loaded) = loaded {
                    return Ok(loaded);
                }
                let _loading = Loading::begin(self.catalog(), self.model, version);
                let candidate = self.stored_candidate(version).await?;
                let prepared = self.load(candidate).await?;
                self.start(version, prepared)
            }
        }
    }

    /// Makes `active` the active version, also after a restart.
    async fn commit(
        &self,
        active: Arc<LoadedVersion>,
        activation: Activation,
    ) -> Result<(), PublishError> {
        let (name, version) = (self.model.clone(), active.version);
        let activate = move |store: &dyn ModelStore| {
            let stored = store.version_numbers(&name)?;
            if let Activation::Replace { before } = activation {
                store.replace_active(&name, version, before)?;
            }
            Ok(stored)
        };
        let activate = self.publisher.blocking(activate);
        let stored = Span::begin("activate model").around(activate).await?;
        self.retire(active, &stored).await;
        Ok(())
    }

    /// Deletes the version of an upload that is refused because another process activated a version meanwhile.
    async fn withdraw(&self, version: u64) {
        let (name, model) = (self.model.clone(), self.model);
        let delete = move |store: &dyn ModelStore| {
            // A process that published the same model at the same time has the same version, and may serve it.
            let active = store.active(&name)?;
            if active.is_some_and(|active| active.newest_served == version) {
                return Ok(());
            }
            store.delete(&name, version)
        };
        if let Err(error) = self.publisher.blocking(delete).await {
            warn!(%model, version, "the version never served and cannot be deleted: {error}");
        }
    }

    /// Serves `active` and the loaded versions that the policy keeps; the others finish the requests that
    /// they have. Then loads the other versions of the policy.
    async fn retire(&self, active: Arc<LoadedVersion>, stored: &[u64]) {
        let (catalog, model, version) = (self.catalog(), self.model, active.version);
        let policy = &active.config.version_policy;
        let selected = policy.select(stored, version);
        let mut stored: BTreeMap<_, _> = stored.iter().map(|number| (*number, None)).collect();
        let mut loaded = catalog.answering(model);
        loaded.insert(version, active);
        // The trial of a canary continues beside the same active version, unless another process deleted the canary.
        let trial = catalog.trial(model);
        let trial =
            trial.filter(|trial| trial.active == version && stored.contains_key(&trial.canary));
        let canary = trial.map(|trial| trial.canary);
        loaded.retain(|number, _| selected.contains(number) || canary == Some(*number));
        catalog.serve(model, version, loaded.clone(), stored.clone());

        let missing = selected
            .into_iter()
            .filter(|number| !loaded.contains_key(number));
        for other in missing.collect::<Vec<_>>() {
            match self.load_beside(other).await {
                Ok(started) => _ = loaded.insert(other, started),
                Err(error) => {
                    warn!(%model, version = other, "the version does not serve: {error}");
                    stored.insert(other, Some(LoadFailure::from(&error)));
                }
            }
            catalog.serve(model, version, loaded.clone(), stored.clone());
        }
    }

    /// Loads the old active version again, if it was unloaded. Nothing else of the model is loaded then.
    async fn roll_back(self) {
        let Some(version) = self.unloaded else {
            return;
        };
        let restored = async {
            let active = {
                let _loading = Loading::begin(self.catalog(), self.model, version);
                self.load_beside(version).await?
            };
            self.commit(active, Activation::Done).await
        };
        if let Err(error) = restored.await {
            self.publisher.fail(self.model, Some(version), &error);
        }
    }

    /// Loads a stored version beside those that are loaded; unloads nothing for it.
    pub(super) async fn load_beside(
        &self,
        version: u64,
    ) -> Result<Arc<LoadedVersion>, PublishError> {
        let checked = self.stored_candidate(version).await?.check().await?;
        self.publisher.check_memory(checked.memory_bytes, 0)?;
        self.start(version, checked.load().await?)
    }

    /// Loads `candidate`, for which it makes room.
    async fn load(&mut self, candidate: Candidate) -> Result<Prepared, PublishError> {
        let checked = Span::begin("check model").around(candidate.check()).await?;
        self.make_room(&checked).await?;
        Span::begin("load model").around(checked.load()).await
    }

    async fn stored_candidate(&self, version: u64) -> Result<Candidate, PublishError> {
        let name = self.model.clone();
        let read = move |store: &dyn ModelStore| {
            let (manifest, signed) = store.signed_manifest(&name, version)?;
            let onnx = store.onnx(&name, version, &manifest)?;
            Ok((Bytes::from(onnx), manifest, signed))
        };
        let (onnx, manifest, signed) = self.publisher.blocking(read).await?;
        self.publisher.candidate(self.model, onnx, manifest, signed)
    }

    pub(super) fn start(
        &self,
        version: u64,
        prepared: Prepared,
    ) -> Result<Arc<LoadedVersion>, PublishError> {
        let (catalog, model) = (self.catalog(), self.model);
        let statistics = catalog.statistics(model, version);
        let changes = catalog.change_sender();
        let started = LoadedVersion::start(model, version, prepared, statistics, changes);
        started.map_err(|error| {
            error!(%model, version, "cannot start a session thread: {error}");
            PublishError::Internal
        })
    }

    /// Ensures that there is memory for `checked`. If necessary, and if the configuration permits it, the
    /// model's loaded versions are unloaded.
    async fn make_room(&mut self, checked: &Checked) -> Result<(), PublishError> {
        let (publisher, model) = (self.publisher, self.model);
        let Err(refused) = publisher.check_memory(checked.memory_bytes, 0) else {
            return Ok(());
        };
        if publisher.config.memory.on_swap == SwapPolicy::Refuse {
            return Err(refused);
        }
        let loaded = publisher.catalog.loaded(model).into_values();
        let freed = loaded.map(|version| version.memory_bytes).sum();
        publisher.check_memory(checked.memory_bytes, freed)?;
        self.unloaded = publisher.catalog.serving(model);
        let sessions = publisher.catalog.vacate(model);
        let deadline = Instant::now() + publisher.config.shutdown.drain();
        while sessions.iter().any(|session| session.strong_count() > 0) {
            if Instant::now() > deadline {
                warn!(%model, "requests keep unloaded sessions busy");
                break;
            }
            sleep(UNLOAD_POLL).await;
        }
        Ok(())
    }

    fn catalog(&self) -> &'p Catalog {
        &self.publisher.catalog
    }
}

/// While this value lives, the catalog reports a version of the model as loading.
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
