//! Loads the stored models at the start, and retries those that failed for a transient reason.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifacts::model_store::{ActiveVersion, ModelName};
use server::back_off::BackOff;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{
    Publisher,
    follow::States,
    progress::Progress,
    swap::{Source, Swap},
};
use crate::{catalog::LoadFailure, error::PublishError};

/// Bounds of the pauses between attempts to load a model.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The versions of one model in the store.
pub(super) struct Stored {
    /// The versions, in ascending order.
    versions: Vec<u64>,
    pub(super) active: Option<ActiveVersion>,
    /// Whether another process may be about to activate a version.
    is_shared: bool,
}

/// The attempts to load a model.
struct Attempts {
    back_off: BackOff,
    next: Instant,
}

impl Publisher {
    /// Serves the versions that served before the process ended, or newer ones that an interrupted publish
    /// committed but did not activate. A model that cannot be loaded is reported and does not affect the
    /// others.
    ///
    /// If other processes may change the store, returns its state before that, for [`follow`](Self::follow).
    ///
    /// # Errors
    /// If the models of the store cannot be listed.
    pub(crate) async fn restore(self: &Arc<Self>) -> Result<Option<States>, PublishError> {
        let states = if self.store.is_shared() {
            Some(self.blocking(|store| store.states()).await?)
        } else {
            None
        };
        let models = self.blocking(|store| store.models()).await?;
        for name in self.config.models.keys() {
            if !models.iter().any(|model| model.as_str() == name) {
                warn!(
                    "[models.{name}] is configured, but no model of this name is stored; it takes effect \
                     when one is published"
                );
            }
        }
        // First all names, so that readiness considers every model that has to answer.
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
        Ok(states)
    }

    /// Loads models that failed for a transient reason again, with exponential back-off, as long as they
    /// should answer. Does not return.
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
                // Cannot fail: the catalog lives as long as `self`.
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

    /// Loads the versions of a model that should answer and do not.
    async fn load_again(self: &Arc<Self>, model: &ModelName) {
        let _change = self.change.lock().await;
        // Another change may have loaded, unloaded or deleted the model in the meantime.
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
        let Err(error) = self.serve_again(model, wanted).await else {
            info!(%model, version = wanted, "loaded");
            return;
        };
        let active = stored.active.map(|active| active.version);
        let Some(active) = active.filter(|active| *active != wanted) else {
            return self.fail(model, Some(wanted), &error);
        };
        // No client got an acknowledgement for `wanted`, so the version before it may serve.
        warn!(%model, version = wanted, "cannot be activated: {error}");
        match self.serve_again(model, active).await {
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

    /// Serves a version that should answer. The caller holds `change`.
    async fn serve_again(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
    ) -> Result<(), PublishError> {
        let source = if self.store.is_shared() {
            Source::Active(version)
        } else {
            Source::Stored(version)
        };
        Swap::new(self, model).run(source).await.map(drop)
    }

    /// Reads the versions of a model from the store. The catalog gets the version numbers even if
    /// active.json cannot be read.
    pub(super) async fn stored(
        self: &Arc<Self>,
        model: &ModelName,
    ) -> Result<Stored, PublishError> {
        let name = model.clone();
        let versions = self.blocking(move |store| store.version_numbers(&name));
        let versions = versions.await?;
        self.catalog.store(model, &versions);
        let name = model.clone();
        let active = self.blocking(move |store| store.active(&name)).await?;
        Ok(Stored {
            versions,
            active,
            is_shared: self.store.is_shared(),
        })
    }
}

impl Stored {
    /// The version that has to serve: the newest one if it never served, because it passed every check and
    /// only its activation was interrupted; otherwise the active one. In a shared store, the publish of the newest
    /// one may still be going on, so always the active one.
    fn wanted(&self) -> Option<u64> {
        if self.is_shared {
            return self.active.map(|active| active.version);
        }
        let newest_served = self.active.map_or(0, |active| active.newest_served);
        let newest = self.versions.last().copied();
        let active = self.active.map(|active| active.version);
        newest.filter(|newest| *newest > newest_served).or(active)
    }
}

impl Attempts {
    /// The first attempt has just failed.
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
