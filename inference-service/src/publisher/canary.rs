//! Publishes canaries, judges them, and promotes them or rolls them back.
//!
//! A trial is in the memory of this service only. A restart ends it: the canary stays stored, and the version that
//! served before serves.

use std::{sync::Arc, time::Duration};

use artifacts::{
    manifest::ArtifactManifest,
    model_store::{ModelName, ModelStore, StoreError},
};
use server::back_off::BackOff;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use traces::Span;
use tracing::{info, warn};

use super::{
    Published, Publisher, Upload,
    loading::Candidate,
    reference::Reference,
    swap::{Source, Swap},
};
use crate::{
    canary::{Comparison, Outcome, Trial, Verdict},
    error::PublishError,
    loaded_version::LoadedVersion,
};

/// How often the rule is applied.
const TICK: Duration = Duration::from_millis(100);

/// Bounds of the pauses between attempts to promote a canary while the model store does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where a canary is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct CanaryPlace {
    /// Its share of the requests.
    share: f64,
    /// The version that serves beside it.
    pub(super) active: u64,
}

impl Publisher {
    /// The place of `upload` as a canary; `None` if it is none.
    pub(super) fn canary_place(&self, upload: &Upload) -> Option<CanaryPlace> {
        let share = upload.canary_share.unwrap_or(self.config.canary.share);
        let active = self.catalog.serving(&upload.model)?;
        (share > 0.0).then_some(CanaryPlace { share, active })
    }

    /// Publishes a model as a canary. The trial of another canary ends. For `keep_active` see [`Upload`]. The caller
    /// holds `change`.
    pub(super) async fn publish_canary(
        self: &Arc<Self>,
        model: ModelName,
        candidate: Candidate,
        place: CanaryPlace,
        keep_active: bool,
    ) -> Result<Published, PublishError> {
        let CanaryPlace { share, active } = place;
        let (name, wanted) = (model.clone(), Arc::clone(&candidate.manifest));
        let find =
            move |store: &dyn ModelStore| Ok((store.find(&name, &wanted)?, store.active(&name)?));
        let (same, before) = self.blocking(find).await?;
        let running = self.catalog.trial(&model);
        let published = |version, is_canary| Published {
            version,
            already_published: same.is_some(),
            serving: active,
            is_canary,
        };
        if let Some(version) = same {
            let is_canary = running.is_some_and(|trial| trial.canary == version);
            let was_served = before.is_some_and(|before| before.newest_served >= version);
            // With `keep_active`, a late retry does not repeat a trial that has ended.
            if version == active || is_canary || (keep_active && was_served) {
                return Ok(published(version, is_canary));
            }
        }
        self.check_replaces(&model, active, &candidate.manifest)?;
        let stored = match same {
            Some(version) => self.load_stored_canary(&model, version).await?,
            None => None,
        };
        let (canary, published) = match stored {
            Some(canary) => {
                let published = published(canary.version, true);
                (canary, published)
            }
            None => {
                let canary = self.store_canary(&model, candidate).await?;
                let published = Published {
                    already_published: false,
                    ..published(canary.version, true)
                };
                (canary, published)
            }
        };
        self.begin_trial(&model, &canary, share, active).await;
        Ok(published)
    }

    /// Checks that the callers of the version `active` can be answered by a version with `manifest`: they have read
    /// what its input, its normalization and its classes are.
    pub(super) fn check_replaces(
        &self,
        model: &ModelName,
        active: u64,
        manifest: &ArtifactManifest,
    ) -> Result<(), PublishError> {
        let loaded = self.catalog.loaded(model);
        let Some(before) = loaded.get(&active) else {
            return Ok(());
        };
        let before = &before.manifest;
        for (field, is_same) in [
            ("signature", before.signature == manifest.signature),
            ("class_names", before.class_names == manifest.class_names),
            (
                "preprocessing",
                before.preprocessing == manifest.preprocessing,
            ),
        ] {
            if !is_same {
                return Err(PublishError::CanaryDiffers { field, active });
            }
        }
        Ok(())
    }

    /// Loads a version that is stored already; `None` if its files are damaged, or its signature is refused.
    async fn load_stored_canary(
        self: &Arc<Self>,
        model: &ModelName,
        version: u64,
    ) -> Result<Option<Arc<LoadedVersion>>, PublishError> {
        let loaded = self.catalog.answering(model).remove(&version);
        let canary = match loaded {
            Some(loaded) => loaded,
            None => match Swap::new(self, model).load_beside(version).await {
                Ok(started) => started,
                Err(PublishError::Store(error)) if error.is_damage() => {
                    warn!(%model, version, "published as a new version, because the stored version is damaged: {error}");
                    return Ok(None);
                }
                // The signature of the upload is accepted.
                Err(error @ (PublishError::Unsigned | PublishError::Signature(_))) => {
                    warn!(%model, version, "published as a new version, because the stored version is refused: {error}");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        let name = model.clone();
        let note = move |store: &dyn ModelStore| store.note_served(&name, version);
        self.blocking(note).await?;
        Ok(Some(canary))
    }

    /// Checks, loads and stores a new version beside those that are loaded; unloads nothing for it.
    async fn store_canary(
        self: &Arc<Self>,
        model: &ModelName,
        candidate: Candidate,
    ) -> Result<Arc<LoadedVersion>, PublishError> {
        let (onnx, manifest) = (candidate.onnx.clone(), Arc::clone(&candidate.manifest));
        let signed = candidate.signed.clone();
        let checked = Span::begin("check model").around(candidate.check()).await?;
        self.check_memory(checked.memory_bytes, 0)?;
        let prepared = Span::begin("load model").around(checked.load()).await?;
        let name = model.clone();
        let store = move |store: &dyn ModelStore| {
            store.commit_canary(&name, &onnx, &manifest, signed.as_deref())
        };
        let store = self.blocking(store);
        let version = Span::begin("store model").around(store).await?;
        Swap::new(self, model).start(version, prepared)
    }

    async fn begin_trial(
        self: &Arc<Self>,
        model: &ModelName,
        canary: &Arc<LoadedVersion>,
        share: f64,
        active: u64,
    ) {
        if let Some(before) = self.catalog.trial(model) {
            self.end_trial(model, &before).await;
        }
        let counts = self.catalog.canary_counts(model);
        let (trial, comparisons) =
            Trial::begin(active, canary.version, share, &self.config.canary, counts);
        self.catalog.begin_trial(canary, &trial);
        info!(%model, version = canary.version, active, share, "published as a canary");
        let judge = Arc::clone(self).judge(model.clone(), trial, comparisons);
        tokio::spawn(judge);
    }

    /// Compares the canary's answers, and applies the rule until the trial ends. A comparison that waits for its
    /// reference does not hold up the rule. While the model store does not answer, a promotion is repeated.
    async fn judge(
        self: Arc<Self>,
        model: ModelName,
        trial: Arc<Trial>,
        mut comparisons: mpsc::Receiver<Comparison>,
    ) {
        let mut pauses = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut promote_from = Instant::now();
        loop {
            let decision = tokio::select! {
                decision = self.decision(&model, &trial, promote_from) => decision,
                () = self.compare_answers(&model, &trial, &mut comparisons) => None,
            };
            let Some(verdict) = decision else {
                return withdrawn(&model, &trial);
            };
            let Err(error) = self.carry_out(&model, &trial, &verdict).await else {
                return;
            };
            let pause = pauses.next_pause();
            promote_from = Instant::now() + pause;
            let (version, reason) = (trial.canary, verdict.reason());
            warn!(
                %model, version, active = trial.active,
                "the canary cannot be activated yet; its trial continues, and the next attempt is in {pause:.1?}: \
                 {reason}; {error}"
            );
        }
    }

    /// Promotes the canary or rolls it back, and ends the trial.
    ///
    /// # Errors
    /// If the model store does not answer. The trial continues.
    async fn carry_out(
        self: &Arc<Self>,
        model: &ModelName,
        trial: &Arc<Trial>,
        verdict: &Verdict,
    ) -> Result<(), StoreError> {
        let version = trial.canary;
        let reason = verdict.reason().to_string();
        let ended = match verdict {
            Verdict::Promote(_) => self.promote(model, trial).await,
            Verdict::RollBack(_) => Ok(self.roll_back(model, trial).await),
        };
        match (ended, verdict) {
            (Ok(false), _) => withdrawn(model, trial),
            (Ok(true), Verdict::Promote(_)) => {
                info!(%model, version, previous = trial.active, "the canary is promoted: {reason}");
                trial.end(Outcome::Promoted, reason);
            }
            (Ok(true), Verdict::RollBack(_)) => {
                warn!(%model, version, active = trial.active, "the canary is rolled back: {reason}");
                trial.end(Outcome::RolledBack, reason);
            }
            (Err(PublishError::Store(error @ StoreError::Unavailable { .. })), _) => {
                return Err(error);
            }
            (Err(error), _) => {
                self.roll_back(model, trial).await;
                let reason = format!("{reason}, but cannot be activated: {error}");
                warn!(%model, version, active = trial.active, "the canary is rolled back: {reason}");
                trial.end(Outcome::RolledBack, reason);
            }
        }
        Ok(())
    }

    /// Applies the rule until it decides, from `promote_from` for a promotion; `None` if another change ends the trial
    /// before.
    async fn decision(
        &self,
        model: &ModelName,
        trial: &Arc<Trial>,
        promote_from: Instant,
    ) -> Option<Verdict> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.catalog.is_on_trial(model, trial) {
                return None;
            }
            match trial.verdict() {
                Some(Verdict::Promote(_)) if Instant::now() < promote_from => {}
                Some(verdict) => return Some(verdict),
                None => {}
            }
        }
    }

    /// Compares the canary's answers with those of the reference, one after another, as long as the trial exists.
    async fn compare_answers(
        &self,
        model: &ModelName,
        trial: &Trial,
        comparisons: &mut mpsc::Receiver<Comparison>,
    ) {
        let reference = Reference::of(&self.config.canary);
        let loaded = |version: u64| self.catalog.answering(model).remove(&version);
        while let Some(comparison) = comparisons.recv().await {
            if let (Some(active), Some(canary)) = (loaded(trial.active), loaded(trial.canary)) {
                reference.compare(trial, active, canary, comparison).await;
            }
        }
    }

    /// Makes the canary the active version; returns whether the trial still ran.
    async fn promote(
        self: &Arc<Self>,
        model: &ModelName,
        trial: &Arc<Trial>,
    ) -> Result<bool, PublishError> {
        let _change = self.change.lock().await;
        if !self.catalog.is_on_trial(model, trial) {
            return Ok(false);
        }
        let name = model.clone();
        let active = self.blocking(move |store| store.active(&name)).await?;
        // The canary is active already if the reply to an earlier attempt was lost.
        let expected = [trial.active, trial.canary];
        let Some(active) = active.filter(|active| expected.contains(&active.version)) else {
            // Another process activated a version that this one does not serve yet.
            let model = model.clone();
            return Err(StoreError::Changed { model }.into());
        };
        let source = Source::Stored(trial.canary);
        Swap::new(self, model).run_after(active, source).await?;
        Ok(true)
    }

    /// Ends the trial, if it still runs; returns whether it did.
    async fn roll_back(self: &Arc<Self>, model: &ModelName, trial: &Arc<Trial>) -> bool {
        let _change = self.change.lock().await;
        if !self.catalog.is_on_trial(model, trial) {
            return false;
        }
        self.end_trial(model, trial).await;
        true
    }

    /// Ends a trial in favour of the version beside the canary. Unloads the canary, unless the policy keeps it. The caller
    /// holds `change`.
    async fn end_trial(self: &Arc<Self>, model: &ModelName, trial: &Trial) {
        self.catalog.end_trial(model);
        let name = model.clone();
        let stored = self.blocking(move |store| store.active(&name)).await;
        let source = match stored {
            // The reply to an attempt to promote the canary was lost.
            Ok(Some(stored)) if stored.version == trial.canary => Source::Stored(trial.active),
            _ => Source::Active(trial.active),
        };
        let unloaded = Swap::new(self, model).run(source).await;
        if let Err(error) = unloaded {
            warn!(%model, "a canary stays loaded until the next change: {error}");
        }
    }
}

/// Records that another change ended a trial.
fn withdrawn(model: &ModelName, trial: &Trial) {
    let reason = "another change of the model's versions ended the trial";
    info!(%model, version = trial.canary, "the canary is withdrawn: {reason}");
    trial.end(Outcome::Withdrawn, reason.to_owned());
}

#[cfg(test)]
mod tests;
