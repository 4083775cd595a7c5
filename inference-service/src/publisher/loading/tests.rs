use common::digest::Sha256;
use networks::{NetworkSpec, Weights};

use super::*;

const CHECKS: Checks = Checks {
    max_model_bytes: 1 << 20,
    max_batch_size: 2,
    runtime: RuntimeConfig {
        sessions: 2,
        threads: 1,
    },
};

/// A model of one pixel and two classes, and a manifest with `logits` for three images.
fn model(logits: &[[f32; 2]]) -> (Bytes, Arc<ArtifactManifest>) {
    let network = "input = [1, 1, 1]\nclasses = 2\npreset = \"mlp\"\nwidths = [4]";
    let spec = NetworkSpec::from_toml(network).unwrap();
    let onnx = networks::onnx::export(&spec, &Weights::initial(&spec, 1).unwrap()).unwrap();
    let json = serde_json::json!({
        "format_version": 1,
        "onnx": {"sha256": Sha256::of(&onnx), "size": onnx.len()},
        "input_shape": [1, 1, 1],
        "class_names": ["dark", "light"],
        "preprocessing": {"mean": [0.0], "std": [1.0]},
        "golden_batch": {"images": "AED/", "logits": logits, "tolerance": 1e-4},
        "network": {},
        "provenance": {
            "run": "r", "seed": 1, "config_sha256": Sha256::of(b""), "dataset": "d",
            "teacher": null, "metrics": {},
        },
    });
    let manifest = ArtifactManifest::from_json(json.to_string().as_bytes()).unwrap();
    (onnx.into(), Arc::new(manifest))
}

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
