//! Arbitrary manifests are rejected, or survive a round trip.

use proptest::prelude::*;

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

/// Manifests of a model of images and of a model of rows.
fn valid() -> Vec<Vec<u8>> {
    let images = serde_json::json!({
        "format_version": 2,
        "onnx": {"sha256": Sha256::of(b"x"), "size": 1},
        "signature": {
            "inputs": [{"name": "input", "data_type": "FP32", "dimensions": ["batch", 1, 2, 2]}],
            "outputs": [{"name": "logits", "data_type": "FP32", "dimensions": ["batch", 2]}],
        },
        "class_names": ["a", "b"],
        "preprocessing": {
            "mean": [0.5], "std": [0.25], "grayscale": true, "resize": {"shorter_side": 5},
            "ground": [250, 120, 10],
        },
        "golden_batch": {
            "data_type": "UINT8", "samples": "AAECAw==", "logits": [[1.0, -0.1]], "tolerance": 1e-4,
        },
        "network": {"preset": "cnn", "widths": [1, 2]},
        "provenance": {
            "run": "demo", "seed": 1, "config_sha256": Sha256::of(b"c"), "dataset": "d",
            "teacher": {"model_id": "m", "numerics": "n", "probe_sha256": "p"},
            "teachers": {"big": {"model_id": "m", "numerics": "n", "probe_sha256": "p"}},
            "bit_reproducible": true,
            "metrics": {"test_accuracy": 0.9},
        },
    });
    let mut rows = images.clone();
    rows["signature"]["inputs"][0]["dimensions"] = serde_json::json!(["batch", 1]);
    rows["golden_batch"]["data_type"] = "FP32".into();
    rows.as_object_mut().unwrap().remove("preprocessing");
    // Not serialized from a manifest, which would hide a field that is never written.
    [images, rows]
        .map(|json| serde_json::to_vec_pretty(&json).unwrap())
        .to_vec()
}

#[test]
fn the_manifests_that_are_damaged_here_are_valid() {
    for json in valid() {
        ArtifactManifest::from_json(&json).unwrap();
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn a_foreign_manifest_is_refused_or_says_the_same_again(json in foreign(valid())) {
        if let Ok(manifest) = in_modest_memory(|| ArtifactManifest::from_json(&json)) {
            let again = ArtifactManifest::from_json(&manifest.to_json());
            prop_assert_eq!(again.map_err(|error| error.to_string()), Ok(manifest));
        }
    }
}
