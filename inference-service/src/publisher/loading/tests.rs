use super::*;
use crate::test_model::model;

const CHECKS: Checks = Checks {
    max_model_bytes: 1 << 20,
    max_batch_size: 2,
    max_activation_bytes: 1 << 20,
    runtime: RuntimeConfig {
        sessions: 2,
        threads: 1,
    },
};

/// The model's own logits of the three images.
fn right_logits() -> Vec<[f32; 2]> {
    let (onnx, _) = model(&[[0.0; 2]; 3]);
    let mut session = Session::load(&onnx, SessionOptions::default()).unwrap();
    let logits = session.run(&[0.0, 64.0 / 255.0, 1.0], 3).unwrap();
    let (rows, _) = logits.as_chunks();
    rows.to_vec()
}

#[tokio::test]
async fn every_session_is_loaded_and_held_against_the_golden_batch() {
    let logits = right_logits();
    let (onnx, manifest) = model(&logits);
    let limit = Duration::from_secs(60);
    let sessions = prepare(onnx, manifest, CHECKS, limit).await.unwrap();
    assert_eq!(sessions.sessions.len(), 2);
    assert_eq!(sessions.interface.classes, 2);

    let mut wrong = logits;
    wrong[2][1] += 0.01;
    let (onnx, manifest) = model(&wrong);
    let error = prepare(onnx, manifest, CHECKS, limit)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("image 2, class 1"), "{error}");
}

#[tokio::test]
async fn what_takes_too_long_is_given_up_and_a_panic_is_no_answer() {
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
