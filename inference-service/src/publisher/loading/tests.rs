use super::*;
use crate::{
    config::{InferenceConfig, Instances},
    test_model::model,
};

fn candidate(logits: &[[f32; 2]], deterministic: bool) -> Candidate {
    let (onnx, manifest) = model(logits);
    let mut config = InferenceConfig::shipped();
    config.batching.max_batch_size = 2;
    config.runtime.instances = Instances::Count(2);
    config.runtime.deterministic = deterministic;
    Candidate {
        onnx,
        manifest,
        signed: None,
        limits: config.publish,
        config: Arc::new(config.model("m")),
    }
}

async fn prepare(candidate: Candidate) -> Result<Prepared, PublishError> {
    candidate.check().await?.load().await
}

/// The logits that the model computes for the three images.
fn right_logits() -> Vec<[f32; 2]> {
    let (onnx, _) = model(&[[0.0; 2]; 3]);
    let mut session = Session::load(&onnx, SessionOptions::default()).unwrap();
    let logits = session.run(&[0.0, 64.0 / 255.0, 1.0], 3).unwrap();
    let (rows, _) = logits.as_chunks();
    rows.to_vec()
}

#[tokio::test]
async fn every_session_is_loaded_and_verified_with_the_golden_batch() {
    let logits = right_logits();
    let mut wrong = logits.clone();
    wrong[2][1] += 0.01;
    for deterministic in [false, true] {
        let prepared = prepare(candidate(&logits, deterministic)).await.unwrap();
        assert_eq!(prepared.sessions.len(), 2);
        assert_eq!(prepared.interface.classes, 2);

        let error = prepare(candidate(&wrong, deterministic)).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("sample 2, class 1"), "{error}");
    }
}

#[tokio::test]
async fn the_golden_batch_may_differ_by_a_fraction_of_its_largest_logit() {
    let logits = right_logits();
    let mut wrong = logits.clone();
    wrong[2][1] += 0.01;
    let largest = wrong[2].map(f32::abs).into_iter().fold(0.0, f32::max);
    for (allowed, agrees) in [(0.011, true), (0.009, false)] {
        let mut candidate = candidate(&wrong, false);
        let manifest = Arc::make_mut(&mut candidate.manifest);
        manifest.golden_batch.relative_tolerance = allowed / largest;
        let prepared = prepare(candidate).await;
        assert_eq!(prepared.is_ok(), agrees, "{allowed}");
    }
}

#[tokio::test]
async fn the_memory_of_a_model_grows_with_its_sessions_and_its_batches() {
    let logits = right_logits();
    let checked = candidate(&logits, false).check().await.unwrap();
    let alone = candidate(&logits, true).check().await.unwrap();
    let (onnx, _) = model(&logits);
    let weights = 2 * MEMORY_PER_BYTE * onnx.len() as u64;
    assert!(weights < alone.memory_bytes, "{alone:?}");
    let (two, one) = (checked.memory_bytes - weights, alone.memory_bytes - weights);
    assert_eq!(two, 2 * one);
}

#[tokio::test]
async fn a_time_out_and_a_panic_are_errors() {
    let (_keep_waiting, wait) = std::sync::mpsc::channel::<()>();
    let never = move || {
        let _ = wait.recv();
        Ok(())
    };
    let error = within(Duration::from_millis(10), never).await.unwrap_err();
    assert!(
        matches!(error, PublishError::LoadTimedOut { .. }),
        "{error}"
    );

    let limit = Duration::from_secs(60);
    let error = within::<()>(limit, || panic!("as a test"))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Internal), "{error}");
}
