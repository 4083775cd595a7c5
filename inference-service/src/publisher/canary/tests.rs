use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use artifacts::model_store::{ActiveVersion, ModelState, SignedManifest};
use bytes::Bytes;
use tokio::time::sleep;

use super::*;
use crate::{
    batcher::ComputeTimes,
    catalog::Catalog,
    config::{CanaryConfig, InferenceConfig},
    error::InferenceError,
    publisher::SignaturePolicy,
    test_model,
};

/// A store of the versions 1 and 2, of which 1 is active. Its next activations of 2 fail.
#[derive(Debug, Clone)]
struct FailingStore(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    active: u64,
    /// Activations of version 2 so far.
    attempts: usize,
    /// The failures to come, the next one last.
    failures: Vec<Failure>,
}

/// What becomes of an activation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    NotSent,
    ReplyLost,
    OtherWriter,
}

impl FailingStore {
    fn new(failures: &[Failure]) -> Self {
        Self(Arc::new(Mutex::new(State {
            active: 1,
            attempts: 0,
            failures: failures.to_vec(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn no_answer() -> StoreError {
    StoreError::Unavailable {
        url: "s3://models/m/active.json".to_owned(),
        source: object_store::Error::Generic {
            store: "failing",
            source: "no answer".into(),
        },
    }
}

impl ModelStore for FailingStore {
    fn models(&self) -> Result<Vec<ModelName>, StoreError> {
        unreachable!("a trial lists no models")
    }

    fn version_numbers(&self, _: &ModelName) -> Result<Vec<u64>, StoreError> {
        Ok(vec![1, 2])
    }

    fn manifest(&self, _: &ModelName, _: u64) -> Result<ArtifactManifest, StoreError> {
        unreachable!("both versions are loaded")
    }

    fn signed_manifest(
        &self,
        _: &ModelName,
        _: u64,
    ) -> Result<(ArtifactManifest, Option<SignedManifest>), StoreError> {
        unreachable!("both versions are loaded")
    }

    fn onnx(&self, _: &ModelName, _: u64, _: &ArtifactManifest) -> Result<Vec<u8>, StoreError> {
        unreachable!("both versions are loaded")
    }

    fn active(&self, _: &ModelName) -> Result<Option<ActiveVersion>, StoreError> {
        let json = serde_json::json!({
            "format_version": 1, "version": self.state().active, "newest_served": 2,
        });
        Ok(Some(serde_json::from_value(json).unwrap()))
    }

    fn states(&self) -> Result<BTreeMap<ModelName, ModelState>, StoreError> {
        unreachable!("nothing follows the store")
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&self, _: &ModelName, _: &[u8], _: &ArtifactManifest) -> Result<u64, StoreError> {
        unreachable!("a trial stores nothing")
    }

    fn commit_signed(
        &self,
        _: &ModelName,
        _: &[u8],
        _: &SignedManifest,
    ) -> Result<u64, StoreError> {
        unreachable!("a trial stores nothing")
    }

    fn note_served(&self, _: &ModelName, _: u64) -> Result<(), StoreError> {
        unreachable!("a trial stores nothing")
    }

    fn replace_active(
        &self,
        model: &ModelName,
        version: u64,
        before: Option<ActiveVersion>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        assert_eq!(before.map(|before| before.version), Some(state.active));
        if version == 1 {
            state.active = version;
            return Ok(());
        }
        state.attempts += 1;
        let failure = state.failures.pop();
        if matches!(failure, None | Some(Failure::ReplyLost)) {
            state.active = version;
        }
        match failure {
            None => Ok(()),
            Some(Failure::NotSent | Failure::ReplyLost) => Err(no_answer()),
            Some(Failure::OtherWriter) => Err(StoreError::Changed {
                model: model.clone(),
            }),
        }
    }

    fn delete(&self, _: &ModelName, _: u64) -> Result<(), StoreError> {
        unreachable!("a trial deletes nothing")
    }

    fn delete_model(&self, _: &ModelName) -> Result<Vec<u64>, StoreError> {
        unreachable!("a trial deletes nothing")
    }
}

/// A publisher on `store` with a canary, version 2, that has passed its trial.
fn passed_trial(store: &FailingStore) -> (Arc<Publisher>, Arc<Trial>, mpsc::Receiver<Comparison>) {
    let config = InferenceConfig::shipped();
    let catalog = Arc::new(Catalog::default());
    let [active, canary] =
        [1, 2].map(|version| test_model::without_sessions(&catalog, &model(), version));
    let loaded = BTreeMap::from([(1, active)]);
    catalog.serve(&model(), 1, loaded, BTreeMap::from([(1, None)]));
    let rule = CanaryConfig {
        min_requests: 1,
        ..config.canary.clone()
    };
    let (trial, comparisons) = Trial::begin(1, 2, 0.5, &rule, Arc::default());
    catalog.begin_trial(&canary, &trial);
    let times = ComputeTimes {
        queue: Duration::from_micros(1),
        compute_input: Duration::from_micros(1),
        compute_infer: Duration::from_micros(1),
        compute_output: Duration::from_micros(1),
    };
    for is_canary in [false, true] {
        let observer = trial.observer(is_canary);
        observer.answered(&times, &Bytes::new(), None);
    }
    trial.compared(1, 1);
    let store = Box::new(store.clone());
    let publisher = Publisher::new(store, catalog, &config, SignaturePolicy::default());
    (Arc::new(publisher), trial, comparisons)
}

fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

fn outcome(trial: &Trial) -> Outcome {
    trial.report().ended.expect("it has ended").0
}

#[tokio::test]
async fn a_promotion_is_repeated_unless_another_writer_won() {
    for (failures, expected, attempts) in [
        (&[][..], Outcome::Promoted, 1),
        (&[Failure::NotSent][..], Outcome::Promoted, 2),
        (&[Failure::ReplyLost][..], Outcome::Promoted, 2),
        (&[Failure::OtherWriter][..], Outcome::RolledBack, 1),
        (
            &[Failure::OtherWriter, Failure::NotSent][..],
            Outcome::RolledBack,
            2,
        ),
    ] {
        let store = FailingStore::new(failures);
        let (publisher, trial, comparisons) = passed_trial(&store);
        let judge = Arc::clone(&publisher).judge(model(), Arc::clone(&trial), comparisons);
        judge.await;
        assert_eq!(outcome(&trial), expected, "{failures:?}");
        let serving = match expected {
            Outcome::Promoted => 2,
            Outcome::RolledBack | Outcome::Withdrawn => 1,
        };
        assert_eq!(publisher.catalog.serving(&model()), Some(serving));
        let state = store.state();
        assert_eq!((state.active, state.attempts), (serving, attempts));
        assert!(state.failures.is_empty());
    }
}

#[tokio::test]
async fn a_canary_that_waits_for_the_store_is_still_judged() {
    for first in [Failure::NotSent, Failure::ReplyLost] {
        let store = FailingStore::new(&[&[Failure::NotSent; 100][..], &[first]].concat());
        let (publisher, trial, comparisons) = passed_trial(&store);
        let judge = Arc::clone(&publisher).judge(model(), Arc::clone(&trial), comparisons);
        let judge = tokio::spawn(judge);
        while store.state().attempts == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(trial.report().ended, None);
        let failure = InferenceError::WorkerStopped { model: model() };
        trial.observer(true).failed(&failure);
        judge.await.unwrap();
        assert_eq!(outcome(&trial), Outcome::RolledBack);
        assert_eq!(publisher.catalog.serving(&model()), Some(1));
        assert_eq!(store.state().active, 1, "{first:?}");
    }
}
