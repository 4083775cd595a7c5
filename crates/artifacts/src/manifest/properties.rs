//! Arbitrary manifests are rejected, or survive a round trip.

use proptest::prelude::*;

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

fn valid() -> Vec<u8> {
    let json = serde_json::json!({
        "format_version": 1,
        "onnx": {"sha256": Sha256::of(b"x"), "size": 1},
        "input_shape": [1, 2, 2],
        "class_names": ["a", "b"],
        "preprocessing": {
            "mean": [0.5], "std": [0.25], "grayscale": true, "resize": {"shorter_side": 5},
        },
        "golden_batch": {"images": "AAECAw==", "logits": [[1.0, -0.1]], "tolerance": 1e-4},
        "network": {"preset": "cnn", "widths": [1, 2]},
        "provenance": {
            "run": "demo", "seed": 1, "config_sha256": Sha256::of(b"c"), "dataset": "d",
            "teacher": {"model_id": "m", "numerics": "n", "probe_sha256": "p"},
            "bit_reproducible": true,
            "metrics": {"test_accuracy": 0.9},
        },
    });
    // Not serialized from a manifest, which would hide a field that is never written.
    serde_json::to_vec_pretty(&json).unwrap()
}

#[test]
fn the_manifest_that_is_damaged_here_is_valid() {
    ArtifactManifest::from_json(&valid()).unwrap();
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn a_foreign_manifest_is_refused_or_says_the_same_again(json in foreign(vec![valid()])) {
        if let Ok(manifest) = in_modest_memory(|| ArtifactManifest::from_json(&json)) {
            let again = ArtifactManifest::from_json(&manifest.to_json());
            prop_assert_eq!(again.map_err(|error| error.to_string()), Ok(manifest));
        }
    }
}
