//! Serves what other processes change in a shared store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifacts::model_store::{ModelName, ModelState};
use server::back_off::BackOff;
use tracing::{info, warn};

use super::{
    Publisher,
    swap::{Source, Swap},
};
use crate::{catalog::LoadFailure, error::PublishError};

/// Longest pause while the store does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The state of every model in the store.
pub(crate) type States = BTreeMap<ModelName, ModelState>;

impl Publisher {
    /// Looks for changes of the store since `followed`, after every poll interval, and serves them. Between two
    /// looks half of the interval passes at least, at random, so that services do not look in step. While the store
    /// does not answer, the models that are loaded continue to serve. Does not return.
    pub(crate) async fn follow(self: Arc<Self>, mut followed: States) {
        let interval = self.config.model_store.poll_interval();
        let mut pauses = BackOff::new(interval, LONGEST_PAUSE.max(interval));
        let mut answers = true;
        loop {
            pauses.pause().await;
            match self.blocking(|store| store.states()).await {
                Ok(states) => {
                    if !answers {
                        info!("the model store answers again");
                    }
                    answers = true;
                    pauses.reset();
                    if self.follow_changes(&mut followed, &states).await {
                        self.polls.count_followed();
                    } else {
                        self.polls.count_failed();
                    }
                }
                Err(error) => {
                    if answers {
                        warn!(
                            "the model store does not answer; the loaded models serve on: {error}"
                        );
                    }
                    answers = false;
                    self.polls.count_failed();
                }
            }
        }
    }

    /// Serves the changes from `followed` to `states`, and records in `followed` those that it has served. Returns whether
    /// it leaves none for the next look.
    async fn follow_changes(self: &Arc<Self>, followed: &mut States, states: &States) -> bool {
        let mut is_complete = true;
        let known: Vec<ModelName> = followed.keys().cloned().collect();
        let gone = known.iter().filter(|model| !states.contains_key(*model));
        for model in states.keys().chain(gone) {
            let (before, now) = (followed.get(model), states.get(model));
            if before == now {
                continue;
            }
            let tag = |state: Option<&ModelState>| state.and_then(|state| state.active.clone());
            let is_activated = tag(before) != tag(now);
            if let Err(error) = self.follow_model(model, is_activated).await {
                warn!(%model, "cannot follow the model store: {error}");
                if LoadFailure::from(&error).transient {
                    // The next look finds the same difference.
                    is_complete = false;
                    continue;
                }
            }
            match now {
                Some(now) => _ = followed.insert(model.clone(), now.clone()),
                None => _ = followed.remove(model),
            }
        }
        is_complete
    }

    /// Serves the active version of a model that another process changed, as a publish here would. If it cannot be
    /// loaded, the catalog reports why, and the version that served before continues to serve.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn follow_model(
        self: &Arc<Self>,
        model: &ModelName,
        is_activated: bool,
    ) -> Result<(), PublishError> {
        let _change = self.change.lock().await;
        let name = model.clone();
        let versions = self.blocking(move |store| store.version_numbers(&name));
        if versions.await?.is_empty() {
            if self.catalog.models().contains_key(model) {
                info!(%model, "deleted by another process");
                self.catalog.remove(model);
            }
            return Ok(());
        }
        let stored = self.stored(model).await?;
        let serving = self.catalog.serving(model);
        // A model that was unloaded here stays unloaded until another version of it is activated. `active.json` also
        // changes when a canary is published.
        let unloaded = self.catalog.unloaded(model);
        let active = stored.active.map(|active| active.version);
        let is_wanted = |version: &u64| is_activated && unloaded != Some(*version);
        let Some(version) = active.filter(|version| serving.is_some() || is_wanted(version)) else {
            return Ok(());
        };
        match Swap::new(self, model).run(Source::Active(version)).await {
            Ok(_) if serving == Some(version) => {}
            Ok(_) => info!(%model, version, "serves; it was activated by another process"),
            Err(error) => {
                let failure = LoadFailure::from(&error);
                let retried = failure.transient;
                warn!(%model, version, retried, "was activated by another process, and does not serve: {error}");
                self.catalog.fail(model, Some(version), &failure);
            }
        }
        Ok(())
    }
}
