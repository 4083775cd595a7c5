//! `[export] int8`: the model in int8, its publication, and quantization-aware training.

use artifacts::manifest::ArtifactManifest;
use common::digest::Sha256;

use super::{LONGER, Path, Scene, delivery::inference_service, manifest, read, stderr};

const INT8: &str = "export.int8={ calibration_samples = 100 }";

#[test]
fn a_run_writes_and_publishes_its_model_in_int8() {
    let scene = Scene::new();
    let (_service, [admin, _]) = inference_service(&scene, &[]);
    let publish = |precision: &str| {
        let to = format!("endpoint = \"{admin}\", model = \"m\"");
        format!("publish={{ {to}, precision = \"{precision}\" }}")
    };
    let refused = scene
        .command("refused", &[&publish("int8")])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(64), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("publish.precision = int8: needs export.int8"),
        "{}",
        stderr(&refused)
    );

    let settings = [&LONGER[..], &[INT8]].concat();
    let published = publish("int8");
    let folder = scene.run("first", &[&settings[..], &[&published]].concat());
    let int8 = read(&folder, "artifact/int8/model.onnx");
    let float = read(&folder, "artifact/model.onnx");
    let run = manifest(&folder);
    assert_eq!(run.int8_onnx_sha256, Some(Sha256::of(&int8)));
    assert_eq!(run.onnx_sha256, Some(Sha256::of(&float)));
    assert_eq!(run.published_version, Some(1));
    // The service has compared its logits with the golden ones.
    assert!(read(&scene.path("models/m/1"), "model.onnx") == int8);

    let of = |name: &str| ArtifactManifest::from_json(&read(&folder, name)).unwrap();
    let [of_float, of_int8] = ["artifact/manifest.json", "artifact/int8/manifest.json"].map(of);
    assert_eq!(of_int8.onnx.sha256, Sha256::of(&int8));
    assert_eq!(of_int8.golden_samples(), of_float.golden_samples());
    assert_ne!(of_int8.golden_batch.logits, of_float.golden_batch.logits);
    assert_eq!(of_int8.signature, of_float.signature);
    let agreement = of_int8.provenance.metrics["agreement_with_f32"];
    assert!(agreement > 0.8, "{agreement}");

    let again = scene.run("again", &settings);
    assert!(read(&again, "artifact/int8/model.onnx") == int8);
    assert!(read(&again, "artifact/model.onnx") == float);
}

/// The largest difference between the model in int8 and its training, as a share of a sample's largest logit.
fn difference_from_training(folder: &Path) -> Option<f64> {
    let manifest = read(folder, "artifact/int8/manifest.json");
    let manifest = ArtifactManifest::from_json(&manifest).unwrap();
    let metrics = manifest.provenance.metrics;
    metrics.get("difference_from_training").copied()
}

#[test]
fn the_model_of_a_quantization_aware_phase_computes_as_its_training() {
    let scene = Scene::new();
    let refused = scene
        .command("refused", &["phases[1].quantization_aware=true"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(64), "{}", stderr(&refused));
    let problem = "phases[1].quantization_aware = true: needs export.int8";
    assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));

    let settings = [&LONGER[..], &[INT8]].concat();
    let plain = scene.run("plain", &settings);
    let aware = [&settings[..], &["phases[1].quantization_aware=true"]].concat();
    let folder = scene.run("aware", &aware);
    let again = scene.run("again", &aware);
    for file in ["artifact/model.onnx", "artifact/int8/model.onnx"] {
        assert!(read(&folder, file) == read(&again, file), "{file} differs");
        let is_other = read(&folder, file) != read(&plain, file);
        assert!(is_other, "{file} is that of a run without it");
    }
    let aware = |folder: &Path| -> Vec<_> {
        let phases = manifest(folder).phases.into_iter();
        phases.map(|phase| phase.quantization_aware).collect()
    };
    assert_eq!(aware(&folder), [false, true]);
    assert_eq!(aware(&plain), [false, false]);
    let difference = difference_from_training(&folder).unwrap();
    // The tolerance of golden logits.
    assert!(difference > 0.0 && difference < 0.05, "{difference}");
    assert_eq!(difference_from_training(&plain), None);
}
