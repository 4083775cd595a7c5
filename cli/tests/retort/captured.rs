//! `retort distill` on what an inference service captured of its requests.

use std::{fs, process::Command};

use artifacts::manifest::ArtifactManifest;
use test_support::InferenceService;

use crate::distill::{Scene, text};

#[test]
fn a_student_is_distilled_from_captured_requests() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", false);
    let captured = scene.path("captured");
    let store = scene.path("store");
    fs::create_dir(&store).unwrap();
    let folder = format!("capture.folder={}", captured.display());
    let settings = ["capture.share=1.0", folder.as_str()];
    let retort = env!("CARGO_BIN_EXE_retort");
    let mut service = InferenceService::start_with(retort, &store, &settings);
    let files: Vec<_> = fs::read_dir(&photos)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    let mut predict = Command::new(retort);
    predict.args([
        "predict",
        "--model",
        "model",
        "--url",
        &service.address("grpc"),
    ]);
    let predicted = predict.args(&files).output().unwrap();
    assert!(predicted.status.success(), "{}", text(&predicted));
    // What waits for more samples is written at the end.
    service.process.signal("TERM");
    let ended = service.process.wait();
    assert!(ended.success(), "{}", service.process.stderr());

    let data = captured.join("model/1x28x28");
    let (output, summary) = scene.distilled(&data, "student", &[]);
    assert!(output.contains("no labels"), "{output}");
    assert_eq!(summary["labelled_samples"], 0);
    // A tenth of the requests.
    assert_eq!(summary["test_samples"], files.len() / 10);
    let student = &summary["models"]["student"];
    assert!(
        student["accuracy"].is_null() && student["agreement"].is_number(),
        "{summary}"
    );
    let artifact = scene.path("student/run/artifact");
    let manifest = fs::read(artifact.join("manifest.json")).unwrap();
    let manifest = ArtifactManifest::from_json(&manifest).unwrap();
    assert_eq!(manifest.class_names, ["trouser", "shirt", "pullover"]);
    assert!(manifest.provenance.teacher.is_some());
    assert!(artifact.join("model.onnx").exists());
}
