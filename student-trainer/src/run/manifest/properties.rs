//! An arbitrary manifest of a run is rejected, or has the same meaning after it is written and read again.

use proptest::prelude::*;

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

fn valid() -> Vec<u8> {
    let digest = Sha256::of(b"x");
    let json = serde_json::json!({
        "format_version": 1, "name": "demo", "seed": 7, "config_sha256": digest, "threads": 2,
        "precision": "f32", "numerics": "f32 on cpu", "probe_sha256": "p",
        "retort_version": "0.1.0", "dataset": "d", "initial_weights_sha256": digest, "train_samples": 10, "validation_samples": 2,
        "teacher": {"model_id": "m", "numerics": "n", "probe_sha256": "p"},
        "teachers": {"big": {
            "identity": {"model_id": "m", "numerics": "n", "probe_sha256": "p"}, "class_order": digest,
        }},
        "bit_reproducible": false, "model_id": digest,
        "phases": [{
            "kind": "distill", "consumed_samples": 10, "consumed_sha256": digest,
            "best_epoch": 2, "train_loss": 0.5,
            "train_accuracy": 0.75, "validation_accuracy": null, "seconds": 1.5,
        }],
        "onnx_sha256": digest, "published_version": 3, "seconds": 2.5,
        "int8_onnx_sha256": digest, "parameters": 7850, "validation_dataset": "v",
        "publish_gate": [{"bound": "min_accuracy", "wanted": 0.9, "measured": 0.75, "met": false}],
    });
    // Not serialized from a manifest, which would hide a field that is never written.
    serde_json::to_vec_pretty(&json).unwrap()
}

#[test]
fn the_manifest_that_is_damaged_here_is_valid() {
    serde_json::from_slice::<RunManifest>(&valid()).unwrap();
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn a_foreign_manifest_is_refused_or_says_the_same_again(json in foreign(vec![valid()])) {
        let read = in_modest_memory(|| serde_json::from_slice::<RunManifest>(&json));
        if let Ok(manifest) = read {
            let again: RunManifest = serde_json::from_slice(&manifest.to_json()).unwrap();
            prop_assert_eq!(&again, &manifest);
            manifest.metrics();
        }
    }
}
