use serde_json::{Value, json};

use super::*;

const CONFIG: &str = r#"
seed = 7
threads = 1
[data]
path = "anywhere"
[network]
input = [1, 4, 4]
classes = 2
preset = "mlp"
widths = [3]
[[phases]]
epochs = 3
batch_size = 4
loss = { kind = "kd", temperature = 2.0, alpha = 0.5 }
[[phases]]
epochs = 1
batch_size = 5
loss = { kind = "cross_entropy" }
"#;

const SAMPLES: usize = 10;
const TEACHER: &str = "abc";

/// The digest of the data that a run of [`CONFIG`] consumes, computed independently of the code under test.
fn consumed(
    phase: u64,
    epochs: u64,
    batch_size: usize,
    views: u64,
    teacher: Option<&str>,
) -> Value {
    let mut consumption = Consumption::default();
    for epoch in 0..epochs {
        for samples in EpochSampler::new(SAMPLES, batch_size, 7, phase, epoch).iter() {
            consumption.add(ConsumedStep {
                phase,
                epoch,
                view: epoch % views,
                samples,
                teacher,
            });
        }
    }
    json!(consumption.sha256)
}

/// Writes a finished run to `folder`.
fn write(folder: &Path, config: &str, manifest: &Value) {
    fs::create_dir_all(folder.join("artifact")).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
    let weights = Weights::initial(&network(), 1).unwrap();
    let bytes = weights.to_safetensors().unwrap();
    fs::write(folder.join("artifact/weights.safetensors"), bytes).unwrap();
    fs::create_dir_all(folder.join("artifact/int8")).unwrap();
    fs::write(folder.join("artifact/model.onnx"), b"onnx").unwrap();
    fs::write(folder.join("artifact/int8/model.onnx"), b"int8").unwrap();
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

fn network() -> NetworkSpec {
    toml::from_str::<Config>(CONFIG).unwrap().network
}

fn manifest(config: &str, views: u64) -> Value {
    let weights = Weights::initial(&network(), 1).unwrap();
    json!({
        "format_version": 1,
        "name": "student",
        "seed": 7,
        "config_sha256": Sha256::of(config.as_bytes()),
        "train_samples": SAMPLES,
        "teacher": { "model_id": TEACHER, "numerics": "f32", "probe_sha256": "p" },
        "model_id": model_id(&network(), &weights).unwrap().to_string(),
        "onnx_sha256": Sha256::of(b"onnx"),
        "int8_onnx_sha256": Sha256::of(b"int8"),
        "phases": [
            {
                "kind": "distill",
                "consumed_samples": 3 * SAMPLES,
                "consumed_sha256": consumed(0, 3, 4, views, Some(TEACHER)),
            },
            {
                "kind": "fine_tune",
                "consumed_samples": SAMPLES,
                "consumed_sha256": consumed(1, 1, 5, 1, None),
            },
        ],
    })
}

#[test]
fn a_run_that_consumed_what_it_should_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), CONFIG, &manifest(CONFIG, 3));
    verify(folder.path()).unwrap();
    let views = format!("{CONFIG}\n[soft_targets]\nviews = 2\n");
    write(folder.path(), &views, &manifest(&views, 2));
    verify(folder.path()).unwrap();
    write(folder.path(), &views, &manifest(&views, 3));
    assert!(verify(folder.path()).is_err());
    let sum = CONFIG
        .replace(", alpha = 0.5 }", " }, { kind = \"cross_entropy\" }]")
        .replacen("loss = {", "loss = [{", 1);
    write(folder.path(), &sum, &manifest(&sum, 3));
    verify(folder.path()).unwrap();
}

#[test]
fn a_run_with_named_teachers_is_verified_with_those_that_each_phase_needs() {
    let folder = tempfile::tempdir().unwrap();
    let tables = "[ensembles.both]\nteachers = { big = 0.7, wide = 0.3 }\n\
                  [routes.by_class]\nby = \"class\"\ndefault = \"big\"\n\
                  teachers = { wide = [\"cat\"] }\n";
    for (loss, record) in [
        ("kd\", teacher = \"both\"", r#"{"big":"b1","wide":"w1"}"#),
        (
            "kd\", teacher = \"by_class\"",
            r#"{"big":"b1","wide":"w1"}"#,
        ),
        ("kd\", teacher = \"wide\"", r#"{"wide":"w1"}"#),
    ] {
        let config = CONFIG.replacen("kd\"", loss, 1) + tables;
        let mut manifest = manifest(&config, 3);
        manifest.as_object_mut().unwrap().remove("teacher");
        let identity =
            |model: &str| json!({ "model_id": model, "numerics": "f32", "probe_sha256": "p" });
        manifest["teachers"] = json!({
            "big": { "identity": identity("b1") },
            "wide": { "identity": identity("w1"), "class_order": Sha256::of(b"o") },
        });
        manifest["phases"][0]["consumed_sha256"] = consumed(0, 3, 4, 3, Some(record));
        write(folder.path(), &config, &manifest);
        verify(folder.path()).unwrap();
        // Of exchanged teachers, the digest is another.
        manifest["teachers"]["wide"]["identity"] = identity("b1");
        write(folder.path(), &config, &manifest);
        let error = verify(folder.path()).unwrap_err().to_string();
        assert!(error.contains("exactly once and in order"), "{error}");
        manifest["teachers"].as_object_mut().unwrap().remove("wide");
        write(folder.path(), &config, &manifest);
        let error = verify(folder.path()).unwrap_err().to_string();
        assert!(error.contains("needs the teacher wide"), "{error}");
    }
}

#[test]
fn a_phase_that_may_stop_early_consumed_whole_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let stops = "epochs = 3\nearly_stopping = { patience = 1 }\n";
    let config = CONFIG.replacen("epochs = 3\n", stops, 1);
    let mut manifest = manifest(&config, 3);
    let mut after = |samples: usize, epochs| {
        manifest["phases"][0]["consumed_samples"] = json!(samples);
        manifest["phases"][0]["consumed_sha256"] = consumed(0, epochs, 4, 3, Some(TEACHER));
        write(folder.path(), &config, &manifest);
        verify(folder.path()).map_err(|error| error.to_string())
    };
    for epochs in 1..=3 {
        after(epochs * SAMPLES, epochs as u64).unwrap();
    }
    for (samples, epochs, problem) in [
        (2 * SAMPLES + 1, 2, "phase 1 consumed 21 samples"),
        (0, 0, "phase 1 consumed 0 samples"),
        (4 * SAMPLES, 4, "phase 1 consumed 40 samples"),
        (2 * SAMPLES, 1, "phase 1 did not consume"),
    ] {
        let error = after(samples, epochs).unwrap_err();
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
}

#[test]
fn every_changed_key_is_found_and_named() {
    let other = json!(Sha256::of(b"other"));
    let cases: [(&str, Value, &str); 10] = [
        ("/seed", json!(8), "seed 8"),
        ("/config_sha256", other.clone(), "config.toml has SHA-256"),
        ("/train_samples", json!(11), "phase 1 consumed 30 samples"),
        ("/teacher/model_id", json!("b"), "phase 1 did not consume"),
        ("/teacher", Value::Null, "phase 1 needs a teacher"),
        ("/model_id", other.clone(), "the weights are model"),
        (
            "/onnx_sha256",
            other.clone(),
            "artifact/model.onnx has SHA-256",
        ),
        (
            "/int8_onnx_sha256",
            other.clone(),
            "int8/model.onnx has SHA-256",
        ),
        (
            "/phases/0/consumed_sha256",
            other,
            "phase 1 did not consume",
        ),
        ("/phases/1/consumed_samples", json!(9), "phase 2 consumed 9"),
    ];
    for (key, value, message) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = manifest(CONFIG, 3);
        *manifest.pointer_mut(key).unwrap() = value;
        write(folder.path(), CONFIG, &manifest);
        let error = verify(folder.path()).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains(message), "{key}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let changed = CONFIG.replace("epochs = 3", "epochs = 2");
    write(folder.path(), &changed, &manifest(CONFIG, 3));
    let error = verify(folder.path()).unwrap_err().to_string();
    assert!(error.contains("2 epochs of 10 are 20"), "{error}");
}

#[test]
fn the_file_with_the_initial_weights_is_compared_if_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first.safetensors");
    let config = format!("{CONFIG}\n[initial_weights]\npath = {file:?}\n");
    let mut manifest = manifest(&config, 3);
    let found = |config: &str, manifest: &Value| {
        let run = folder.path().join("run");
        write(&run, config, manifest);
        verify(&run).map_err(|error| error.to_string())
    };
    let error = found(&config, &manifest).unwrap_err();
    assert!(error.contains("the manifest has none"), "{error}");

    manifest["initial_weights_sha256"] = json!(Sha256::of(b"first"));
    found(&config, &manifest).unwrap();
    fs::write(&file, b"first").unwrap();
    found(&config, &manifest).unwrap();
    fs::write(&file, b"other").unwrap();
    let error = found(&config, &manifest).unwrap_err();
    assert!(error.contains("first.safetensors has SHA-256"), "{error}");

    manifest["config_sha256"] = json!(Sha256::of(CONFIG.as_bytes()));
    let error = found(CONFIG, &manifest).unwrap_err();
    assert!(error.contains("config.toml names none"), "{error}");
}

#[test]
fn folders_without_a_finished_run_and_newer_formats_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let error = verify(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no finished run"), "{error}");
    let mut manifest = manifest(CONFIG, 3);
    manifest["format_version"] = json!(2);
    write(folder.path(), CONFIG, &manifest);
    let error = verify(folder.path()).unwrap_err().to_string();
    assert!(error.contains("format_version 2 is newer"), "{error}");
}
