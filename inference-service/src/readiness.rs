//! Readiness of the service, as reported over HTTP, gRPC and health checks.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{catalog::Catalog, config::ReadinessPolicy};

/// Decides whether the service is ready.
#[derive(Debug)]
pub(crate) struct Readiness {
    catalog: Arc<Catalog>,
    policy: ReadinessPolicy,
    phase: watch::Sender<Phase>,
}

/// The phases of the service's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The service loads the stored models.
    Starting,
    /// The service has tried to load every stored model.
    Serving,
    /// The service was asked to stop.
    Stopping,
}

impl Readiness {
    /// The readiness of a service that has not loaded its models yet.
    pub(crate) fn new(catalog: Arc<Catalog>, policy: ReadinessPolicy) -> Self {
        Self {
            catalog,
            policy,
            phase: watch::Sender::new(Phase::Starting),
        }
    }

    /// Enters the phase `Serving`.
    pub(crate) fn start(&self) {
        self.phase.send_replace(Phase::Serving);
    }

    /// Enters the phase `Stopping`, in which the service is not ready.
    pub(crate) fn stop(&self) {
        self.phase.send_replace(Phase::Stopping);
    }

    /// Whether the service accepts requests.
    pub(crate) fn is_ready(&self) -> bool {
        let models_are_ready = || match self.policy {
            ReadinessPolicy::Server => true,
            ReadinessPolicy::AllModels => {
                let models = self.catalog.models();
                models.values().all(|model| model.is_as_wanted())
            }
        };
        *self.phase.borrow() == Phase::Serving && models_are_ready()
    }

    /// Whether the service accepts requests for this version, regardless of others. An empty `version`
    /// selects the active one.
    pub(crate) fn model_is_ready(&self, model: &str, version: &str) -> bool {
        let found = self.catalog.find(model, version);
        let answers = found.is_ok_and(|found| !found.batcher.has_stopped());
        answers && *self.phase.borrow() != Phase::Stopping
    }

    /// Calls `follow` with the result of [`is_ready`](Self::is_ready), now and after every change that may
    /// affect it. Does not return.
    pub(crate) async fn follow<F: Future<Output = ()>>(&self, mut follow: impl FnMut(bool) -> F) {
        let mut phase = self.phase.subscribe();
        let mut models = self.catalog.changes();
        loop {
            phase.mark_unchanged();
            models.mark_unchanged();
            follow(self.is_ready()).await;
            // Cannot fail: both senders live as long as `self`.
            tokio::select! {
                _ = phase.changed() => {}
                _ = models.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use artifacts::model_store::ModelName;

    use super::*;
    use crate::{catalog::LoadFailure, test_model};

    fn ready(catalog: &Arc<Catalog>, policy: ReadinessPolicy) -> bool {
        let readiness = Readiness::new(Arc::clone(catalog), policy);
        assert!(!readiness.is_ready(), "its models have not been loaded");
        readiness.start();
        let ready = readiness.is_ready();
        readiness.stop();
        assert!(!readiness.is_ready(), "it was asked to stop");
        ready
    }

    #[tokio::test]
    async fn a_model_that_should_answer_and_does_not_makes_the_service_not_ready() {
        let catalog = Arc::new(Catalog::default());
        let model = ModelName::new("m").unwrap();
        let failure = LoadFailure {
            reason: "disk".to_owned(),
            transient: true,
        };
        let expect = |all_models: bool, what: &str| {
            let found = [ReadinessPolicy::AllModels, ReadinessPolicy::Server]
                .map(|policy| ready(&catalog, policy));
            assert_eq!(found, [all_models, true], "{what}");
        };
        expect(true, "there is no model");
        catalog.store(&model, &[1, 2]);
        expect(true, "nothing of it was ever activated");
        catalog.expect(&model, Some(2));
        expect(false, "it is being loaded");
        catalog.fail(&model, Some(2), &failure);
        expect(false, "it cannot be loaded");
        catalog.unload(&model);
        expect(true, "it does not have to answer");

        let loaded = test_model::without_sessions(&catalog, &model, 1);
        let stored = [(1, None), (2, Some(failure.clone()))];
        let serve = |version| {
            let version = Arc::clone(version);
            catalog.serve(&model, 1, [(1, version)].into(), stored.clone().into());
        };
        serve(&loaded);
        expect(
            true,
            "its active version answers; the other one was not active",
        );
        loaded.batcher.fail();
        expect(false, "the thread of its session stopped");
        serve(&test_model::without_sessions(&catalog, &model, 1));
        expect(true, "it was loaded again");
        catalog.vacate(&model);
        expect(false, "its versions were unloaded to make room");
        catalog.remove(&model);
        expect(true, "it was deleted");
    }

    #[tokio::test]
    async fn followers_are_notified_of_every_change() {
        let catalog = Arc::new(Catalog::default());
        let readiness = Readiness::new(Arc::clone(&catalog), ReadinessPolicy::AllModels);
        let readiness = Arc::new(readiness);
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let followed = Arc::clone(&readiness);
        tokio::spawn(async move {
            let follow = |ready| {
                sender.send(ready).unwrap();
                std::future::ready(())
            };
            followed.follow(follow).await;
        });
        let model = ModelName::new("m").unwrap();
        assert_eq!(answers.recv().await, Some(false));
        readiness.start();
        assert_eq!(answers.recv().await, Some(true));
        catalog.expect(&model, Some(1));
        assert_eq!(answers.recv().await, Some(false));
        catalog.unload(&model);
        assert_eq!(answers.recv().await, Some(true));
        readiness.stop();
        assert_eq!(answers.recv().await, Some(false));
    }
}
