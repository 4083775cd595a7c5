use super::*;

fn example() -> serde_json::Value {
    serde_json::json!({
        "format_version": 2,
        "onnx": {"sha256": Sha256::of(b"x"), "size": 1},
        "signature": {
            "inputs": [{"name": "input", "data_type": "FP32", "dimensions": ["batch", 1, 2, 2]}],
            "outputs": [{"name": "logits", "data_type": "FP32", "dimensions": ["batch", 2]}],
        },
        "class_names": ["a", "b"],
        "preprocessing": {"mean": [0.5], "std": [0.25]},
        "golden_batch": {
            "data_type": "UINT8", "samples": "AAECAw==", "logits": [[1.0, -0.1]], "tolerance": 1e-4,
        },
        "network": {"preset": "cnn"},
        "provenance": {
            "run": "demo", "seed": 1, "config_sha256": Sha256::of(b"c"), "dataset": "d",
            "teacher": null, "metrics": {"test_accuracy": 0.9},
        },
    })
}

/// A model of rows with three values.
fn rows() -> serde_json::Value {
    let mut manifest = example();
    manifest["signature"]["inputs"][0]["dimensions"] = serde_json::json!(["batch", 3]);
    manifest["golden_batch"]["data_type"] = "FP32".into();
    // Python: base64.b64encode(struct.pack("<3f", 0.5, -2.0, 1e6))
    manifest["golden_batch"]["samples"] = "AAAAPwAAAMAAJHRJ".into();
    manifest.as_object_mut().unwrap().remove("preprocessing");
    manifest
}

fn parse(value: &serde_json::Value) -> Result<ArtifactManifest, ManifestError> {
    ArtifactManifest::from_json(value.to_string().as_bytes())
}

#[test]
fn round_trips() {
    for (json, samples) in [
        (example(), vec![0, 1, 2, 3]),
        (rows(), [0.5_f32, -2.0, 1e6].map(f32::to_le_bytes).concat()),
    ] {
        let manifest = parse(&json).unwrap();
        assert_eq!(manifest.golden_batch.samples, samples);
        let again = ArtifactManifest::from_json(&manifest.to_json()).unwrap();
        assert_eq!(again, manifest);
    }
}

#[test]
fn images_and_rows_are_told_apart() {
    let images = parse(&example()).unwrap();
    assert_eq!(images.images().map(|input| input.shape), Some([1, 2, 2]));
    assert_eq!(images.golden_batch.f32_values(), None);
    let rows = parse(&rows()).unwrap();
    assert_eq!(rows.images(), None);
    assert_eq!(rows.input().to_string(), "`input` FP32 [batch, 3]");
    assert_eq!(rows.golden_batch.f32_values().unwrap(), [0.5, -2.0, 1e6]);
}

#[test]
fn other_formats_are_refused_by_name() {
    for (version, parts) in [
        (1, ["format_version 1", "publish it again"]),
        (3, ["format_version 3", "newer"]),
    ] {
        // Whatever else the file holds.
        let json = serde_json::json!({"format_version": version, "input_shape": [1, 2, 2]});
        let error = parse(&json).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn provenance_of_older_versions_is_read() {
    let oldest = parse(&example()).unwrap().provenance;
    assert_eq!(oldest.bit_reproducible, None);
    let mut manifest = example();
    manifest["provenance"]["bit_reproducible"] = false.into();
    manifest["provenance"]["hard_label_batches"] = 7.into();
    let manifest = parse(&manifest).unwrap();
    let again = ArtifactManifest::from_json(&manifest.to_json()).unwrap();
    assert_eq!(again.provenance.bit_reproducible, Some(false));
    assert_eq!(again, manifest);
}

#[test]
fn preprocessing_has_defaults() {
    let mut manifest = example();
    let of = |manifest: &serde_json::Value| parse(manifest).map(|it| it.preprocessing.unwrap());
    let parsed = of(&manifest).unwrap();
    assert_eq!((parsed.grayscale, parsed.resize), (false, Resize::Cover));
    for (json, expected) in [
        (serde_json::json!("stretch"), Resize::Stretch),
        (serde_json::json!("none"), Resize::None),
        (
            serde_json::json!({"shorter_side": 256}),
            Resize::ShorterSide(256),
        ),
    ] {
        manifest["preprocessing"]["resize"] = json;
        assert_eq!(of(&manifest).unwrap().resize, expected);
    }
    assert_eq!(parsed.ground, [255; 3]);
    assert!(!serde_json::to_string(&parsed).unwrap().contains("ground"));
    let mut on_orange = example();
    on_orange["preprocessing"]["ground"] = serde_json::json!([250, 120, 10]);
    let on_orange = parse(&on_orange).unwrap();
    let again = ArtifactManifest::from_json(&on_orange.to_json()).unwrap();
    assert_eq!(again.preprocessing.unwrap().ground, [250, 120, 10]);
    for wrong in [
        serde_json::json!({"shorter_side": 1}),
        serde_json::json!({"shorter_side": 1_000_000}),
        serde_json::json!("crop"),
    ] {
        manifest["preprocessing"]["resize"] = wrong;
        let error = of(&manifest).unwrap_err().to_string();
        assert!(error.contains("preprocessing.resize"), "{error}");
    }
}

#[test]
fn the_relative_tolerance_grows_with_the_logits() {
    let mut manifest = example();
    let older = parse(&manifest).unwrap().golden_batch;
    assert_eq!(older.allowed_difference(&[179.0, -3.0]), 1e-4);
    manifest["golden_batch"]["relative_tolerance"] = 1e-5.into();
    let golden = parse(&manifest).unwrap().golden_batch;
    for (logits, allowed) in [([0.0, 0.0], 1e-4), ([-179.0, 3.0], 1e-4 + 1.79e-3)] {
        let found = golden.allowed_difference(&logits);
        assert!((found - allowed).abs() < 1e-7, "{found}");
    }
    assert!(!golden.allowed_difference(&[f32::INFINITY]).is_finite());
    manifest["golden_batch"]["relative_tolerance"] = 1.into();
    let error = parse(&manifest).unwrap_err().to_string();
    assert!(error.contains("golden_batch.relative_tolerance"), "{error}");
}

#[test]
fn errors_name_the_field() {
    use serde_json::json;
    let input = "/signature/inputs/0/dimensions";
    let images = [
        ("/onnx/sha256", json!("abc"), "onnx.sha256"),
        ("/onnx/size", json!(-1), "onnx.size"),
        ("/signature/inputs", json!([]), "one input and one output"),
        (
            "/signature/inputs/0/data_type",
            json!("INT64"),
            "INT64 [batch, 1, 2, 2] is not FP32",
        ),
        ("/signature/inputs/0/dimensions/1", json!(0), "1 or more"),
        (
            "/signature/inputs/0/dimensions/1",
            json!("any"),
            "not a batch of samples of a fixed shape",
        ),
        (input, json!(["batch", 4]), "preprocessing: is for images"),
        (input, json!(["batch"]), "preprocessing: is for images"),
        (
            "/signature/outputs/0/dimensions/1",
            json!(3),
            "signature.outputs",
        ),
        ("/class_names", json!([]), "class_names"),
        ("/class_names", json!(["a"]), "signature.outputs"),
        ("/preprocessing", json!(null), "preprocessing: is missing"),
        ("/preprocessing/std/0", json!(0), "preprocessing.std"),
        ("/preprocessing/mean", json!([0, 0]), "preprocessing.mean"),
        (
            "/golden_batch/logits/0",
            json!([1.0]),
            "golden_batch.logits",
        ),
        (
            "/golden_batch/data_type",
            json!("FP32"),
            "golden_batch.data_type",
        ),
        (
            "/golden_batch/samples",
            json!("AAEC"),
            "golden_batch.samples",
        ),
        (
            "/golden_batch/tolerance",
            json!(0),
            "golden_batch.tolerance",
        ),
    ];
    let of_rows = [
        (
            input,
            json!(["batch", 1, 3, 1]),
            "preprocessing: is missing",
        ),
        (input, json!(["batch", 3, 1]), "neither images nor rows"),
        (input, json!(["batch"]), "neither images nor rows"),
        (
            "/golden_batch/data_type",
            json!("UINT8"),
            "golden_batch.data_type",
        ),
        // The last value is an infinity.
        (
            "/golden_batch/samples",
            json!("AAAAPwAAAMAAAIB/"),
            "golden_batch.samples: every value must be finite",
        ),
    ];
    for (base, cases) in [(example(), &images[..]), (rows(), &of_rows[..])] {
        for (pointer, value, named) in cases {
            let mut changed = base.clone();
            *changed.pointer_mut(pointer).unwrap() = value.clone();
            let error = parse(&changed).expect_err(pointer).to_string();
            assert!(error.contains(named), "{pointer}: {error}");
        }
    }
}
