//! Loading what the store says should answer: at the start, and again where it failed for a reason
//! that may pass.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifacts::model_store::{ActiveVersion, ModelName, StoreError};
use onnx_runtime::SessionError;
use server::back_off::BackOff;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::{Publisher, progress::Progress};
use crate::{catalog::LoadFailure, error::PublishError};

/// Bounds of the pauses between attempts to load a model.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the store says of one model.
struct Stored {
    /// In ascending order.
    versions: Vec<u64>,
    active: Option<ActiveVersion>,
}

/// Attempts to load a model.
struct Attempts {
    back_off: BackOff,
    next: Instant,
}

impl Publisher {
    /// Serves what served before the process ended, or what was committed after that by a publish which
    /// was cut off before its activation. A model that cannot be loaded is reported and
    /// left out: the others are not to suffer.
    ///
    /// # Errors
    /// When the models of the store cannot be listed.
    pub(crate) async fn restore(self: &Arc<Self>) -> Result<(), PublishError> {
        let models = self.blocking(|store| store.models()).await?;
        for name in self.config.models.keys() {
            if !models.iter().any(|model| model.as_str() == name) {
                warn!(
                    "[models.{name}] is configured, and no model of that name is stored; it holds once \
                     one is published"
                );
            }
        }
        // All of them first: from here on the catalog knows every model that has to answer.
        for model in &models {
            match self.stored(model).await {
                Ok(stored) => self.catalog.expect(model, stored.wanted()),
                Err(error) => self.fail(model, None, &error),
            }
        }
        let mut progress = Progress::of(models.len());
        for model in &models {
            progress.watch(model, self.load_again(model)).await;
        }
        Ok(())
    }

    /// Tries again, with growing pauses, to load what could not be loaded for a reason that may pass,
    /// as long as it should answer. Does not return.
    pub(crate) async fn retry(self: Arc<Self>) {
        let mut changes = self.catalog.changes();
        let mut attempts = BTreeMap::new();
        loop {
            changes.mark_unchanged();
            let models = self.catalog.models();
            attempts.retain(|name, _| models.get(name).is_some_and(|m| m.can_be_retried()));
            for (name, _) in models.iter().filter(|(_, model)| model.can_be_retried()) {
                attempts.entry(name.clone()).or_insert_with(Attempts::first);
            }
            drop(models);
            let next = attempts
                .iter_mut()
                .min_by_key(|(_, attempts)| attempts.next);
            let Some((model, attempts)) = next else {
                // Holds: the catalog lives as long as `self`.
                let _ = changes.changed().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(attempts.next) => {
                    self.load_again(model).await;
                    attempts.postpone();
                }
                _ = changes.changed() => {}
            }
        }
    }

    /// Loads what should answer of a model and does not.
    async fn load_again(self: &Arc<Self>, model: &ModelName) {
        let _change = self.change.lock().await;
        // Another change may have loaded, unloaded or deleted it meanwhile.
        let models = self.catalog.models();
        let found = models.get(model);
        if found.is_none_or(|found| found.is_as_wanted() && !found.can_be_retried()) {
            return;
        }
        drop(models);
        let stored = match self.stored(model).await {
            Ok(stored) => stored,
            Err(error) => return self.fail(model, None, &error),
        };
        let Some(wanted) = stored.wanted() else {
            return self.catalog.unload(model);
        };
        let Err(error) = self.make_active(model, wanted).await else {
            info!(%model, version = wanted, "loaded");
            return;
        };
        let active = stored.active.map(|active| active.version);
        let Some(active) = active.filter(|active| *active != wanted) else {
            return self.fail(model, Some(wanted), &error);
        };
        // `wanted` was never acknowledged to anybody: the version before it does as well.
        warn!(%model, version = wanted, "cannot be activated: {error}");
        match self.make_active(model, active).await {
            Ok(()) => {
                let failure = LoadFailure {
                    reason: error.to_string(),
                    transient: false,
                };
                self.catalog.fail_beside(model, wanted, &failure);
            }
            Err(error) => self.fail(model, Some(active), &error),
        }
    }

    /// Reads what the store says of a model. The catalog learns the versions also where active.json
    /// cannot be read.
    async fn stored(self: &Arc<Self>, model: &ModelName) -> Result<Stored, PublishError> {
        let name = model.clone();
        let versions = self.blocking(move |store| store.version_numbers(&name));
        let versions = versions.await?;
        self.catalog.store(model, &versions);
        let name = model.clone();
        let active = self.blocking(move |store| store.active(&name)).await?;
        Ok(Stored { versions, active })
    }

    /// Reports that a model does not answer although it should.
    pub(super) fn fail(&self, model: &ModelName, version: Option<u64>, error: &PublishError) {
        let failure = LoadFailure::of(error);
        let retried = failure.transient;
        error!(%model, version, retried, "the model does not serve: {error}");
        self.catalog.fail(model, version, &failure);
    }
}

impl Stored {
    /// The version that has to answer: the newest one where it never served, for it passed every check
    /// before it was committed and only its activation was cut off; else the active one.
    fn wanted(&self) -> Option<u64> {
        let newest_served = self.active.map_or(0, |active| active.newest_served);
        let newest = self.versions.last().copied();
        let active = self.active.map(|active| active.version);
        newest.filter(|newest| *newest > newest_served).or(active)
    }
}

impl Attempts {
    /// One attempt has failed just now.
    fn first() -> Self {
        let mut attempts = Self {
            back_off: BackOff::new(FIRST_PAUSE, LONGEST_PAUSE),
            next: Instant::now(),
        };
        attempts.postpone();
        attempts
    }

    fn postpone(&mut self) {
        self.next = Instant::now() + self.back_off.next_pause();
    }
}

impl LoadFailure {
    /// Why a version could not be loaded from the store.
    pub(super) fn of(error: &PublishError) -> Self {
        Self {
            reason: error.to_string(),
            transient: is_transient(error),
        }
    }
}

/// Whether loading the same version again may succeed without any change by an operator.
fn is_transient(error: &PublishError) -> bool {
    match error {
        PublishError::LoadTimedOut { .. }
        | PublishError::Memory { .. }
        | PublishError::Store(StoreError::Io { .. })
        // No thread was to be had, or one panicked.
        | PublishError::Internal => true,
        PublishError::Session(error) => match error {
            SessionError::Load(said) | SessionError::Run(said) => says_out_of_memory(said),
            SessionError::Interrupted => true,
            SessionError::Library(_)
            | SessionError::Interface { .. }
            | SessionError::InputSize { .. } => false,
        },
        PublishError::Store(
            StoreError::InUse { .. }
            | StoreError::NoSuchModel { .. }
            | StoreError::NoSuchVersion { .. }
            | StoreError::Manifest { .. }
            | StoreError::Corrupt { .. },
        )
        | PublishError::ModelName(_)
        | PublishError::Upload(_)
        | PublishError::UploadTimedOut { .. }
        | PublishError::DigestFormat
        | PublishError::TooLarge { .. }
        | PublishError::Size { .. }
        | PublishError::Digest { .. }
        | PublishError::Manifest(_)
        | PublishError::ManifestMismatch { .. }
        | PublishError::Model(_)
        | PublishError::GoldenBatch { .. }
        | PublishError::VersionActive { .. }
        | PublishError::NothingStored { .. } => false,
    }
}

/// ONNX Runtime has no error code for it: "std::bad_alloc", "Failed to allocate memory for requested
/// buffer of size …".
fn says_out_of_memory(text: &str) -> bool {
    text.contains("bad_alloc") || text.contains("allocate memory")
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let path = || PathBuf::from("m/1/model.onnx");
        let io = io::Error::other("disk");
        let (problem, out_of_memory) = ("digest".to_owned(), "std::bad_alloc".to_owned());
        for (error, transient) in [
            (PublishError::LoadTimedOut { seconds: 1 }, true),
            (
                StoreError::Io {
                    path: path(),
                    source: io,
                }
                .into(),
                true,
            ),
            (SessionError::Load(out_of_memory).into(), true),
            (SessionError::Load("opset 99".to_owned()).into(), false),
            (
                StoreError::Corrupt {
                    path: path(),
                    problem,
                }
                .into(),
                false,
            ),
        ] {
            assert_eq!(is_transient(&error), transient, "{error}");
        }
    }
}
