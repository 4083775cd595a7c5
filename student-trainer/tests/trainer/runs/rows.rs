//! Runs on rows of numbers.

use std::fs;

use artifacts::manifest::ArtifactManifest;
use datasets::{DataSpec, Sample};
use networks::ModelFile;
use onnx_runtime::{Session, SessionOptions};
use tensors::DataType;
use test_support::{
    run_toml::{MOMENTUM, PhaseToml, RunToml},
    write_table,
};

use super::{Path, Scene, TRAINER, read, stderr};

const ROWS_PER_CLASS: usize = 60;
/// Position of the constant value.
const CONSTANT: usize = 3;

/// A scene with a table and the configuration of a network for it.
fn scene() -> Scene {
    let scene = Scene::new();
    write_table(&scene.path("table.csv"), ROWS_PER_CLASS, true);
    let phase = PhaseToml {
        epochs: 8,
        batch_size: 16,
        optimizer: MOMENTUM,
        schedule: "{ kind = \"one_cycle\", max_learning_rate = 0.1 }",
        ..PhaseToml::default()
    };
    let config = RunToml {
        network: "input = [4]\nclasses = 3\npreset = \"mlp\"\nwidths = [16]\ndropout = 0.1",
        phases: &[phase],
        tables: "[data]\nformat = \"csv\"\nclass_names = [\"large\", \"medium\", \"small\"]\n\
                 [checkpoints]\nevery_steps = 5\nkeep_last = 9",
        ..RunToml::default()
    };
    fs::write(scene.path("run.toml"), config.to_string()).unwrap();
    scene
}

impl Scene {
    fn table(&self) -> String {
        format!("data.path={}", self.path("table.csv").display())
    }
}

#[test]
fn rows_are_standardized_by_the_training_samples_in_training_and_in_the_model() {
    let scene = scene();
    let folder = scene.run("run", &[&scene.table()]);
    let model = String::from_utf8(read(&folder, "artifact/model.toml")).unwrap();
    let model = ModelFile::from_toml(&model).unwrap();
    let train = datasets::open(&DataSpec::new(scene.path("table.csv")), &|_| {});
    let train = train.unwrap().train;
    let rows = (0..train.len() as u32).map(|sample| match train.read(sample).unwrap() {
        Sample::Row(row) => row.into_owned(),
        Sample::Image(_) => panic!("not a row"),
    });
    let rows: Vec<Vec<f32>> = rows.collect();
    for value in 0..CONSTANT {
        let column = rows.iter().map(|row| f64::from(row[value]));
        let mean = column.clone().sum::<f64>() / rows.len() as f64;
        let variance = column.map(|x| (x - mean).powi(2)).sum::<f64>() / rows.len() as f64;
        assert_eq!(model.normalization_mean[value], mean as f32);
        let std = variance.sqrt();
        let found = f64::from(model.normalization_std[value]);
        assert!((found - std).abs() < 1e-6 * std, "{found} {std}");
    }
    assert_eq!(model.normalization_mean[CONSTANT], 7.0);
    assert_eq!(model.normalization_std[CONSTANT], 1.0);

    let manifest = ArtifactManifest::from_json(&read(&folder, "artifact/manifest.json")).unwrap();
    assert_eq!(
        manifest.signature.to_string(),
        "`input` FP32 [batch, 4] -> `logits` FP32 [batch, 3]"
    );
    assert_eq!(manifest.preprocessing, None);
    assert_eq!(manifest.golden_batch.data_type, DataType::Fp32);

    // The exported model takes rows as they are in the table.
    let onnx = read(&folder, "artifact/model.onnx");
    let mut session = Session::load(&onnx, SessionOptions::default()).unwrap();
    let logits = session.run(&rows.concat(), rows.len()).unwrap();
    let right = logits.chunks(3).zip(0_u32..).filter(|(logits, sample)| {
        let best = (0..3).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        best.map(|class| class as u32) == train.label(*sample)
    });
    let share = right.count() as f64 / rows.len() as f64;
    assert!(share > 0.95, "{share}");
}

#[test]
fn quantization_aware_training_of_rows_rounds_what_the_model_in_int8_rounds() {
    let scene = scene();
    let table = scene.table();
    let settings = [
        table.as_str(),
        "export.int8={}",
        "phases[0].quantization_aware=true",
    ];
    let folder = scene.run("run", &settings);
    let manifest = read(&folder, "artifact/int8/manifest.json");
    let manifest = ArtifactManifest::from_json(&manifest).unwrap();
    let difference = manifest.provenance.metrics["difference_from_training"];
    assert!(difference < 0.05, "{difference}");
}

#[test]
fn a_run_that_resumes_standardizes_rows_in_the_same_way() {
    let scene = scene();
    let folder = scene.run("run", &[&scene.table()]);
    let onnx = read(&folder, "artifact/model.onnx");
    // As if the run had been killed before its last steps.
    for file in ["manifest.json", "artifact", "phases"] {
        let path = folder.join(file);
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.unwrap();
    }
    let checkpoints = fs::read_dir(folder.join("checkpoints")).unwrap();
    let mut checkpoints: Vec<_> = checkpoints.map(|file| file.unwrap().path()).collect();
    checkpoints.sort();
    for newest in checkpoints.iter().rev().take(3) {
        fs::remove_file(newest).unwrap();
    }
    let resumed = scene.command("run", &[&scene.table()]).output().unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    let said = stderr(&resumed);
    assert!(said.contains("resumes from step"), "{said}");
    assert!(read(&folder, "artifact/model.onnx") == onnx);
}

#[test]
fn models_of_rows_are_evaluated_in_libtorch_and_as_exported() {
    let scene = scene();
    let folder = scene.run("run", &[&scene.table()]);
    let report = scene.path("evaluation.json");
    let named = |name: &str, path: &Path| format!("{name}={}", path.display());
    let done = std::process::Command::new(TRAINER)
        .arg("evaluate")
        .arg("--config")
        .arg(folder.join("config.toml"))
        .args(["--model", &named("student", &folder)])
        .args([
            "--onnx",
            &named("exported", &folder.join("artifact/model.onnx")),
        ])
        .args(["--teacher", "student", "--output"])
        .arg(&report)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let evaluation = fs::read(&report).unwrap();
    let evaluation: serde_json::Value = serde_json::from_slice(&evaluation).unwrap();
    let models = &evaluation["models"];
    assert!(models["student"]["accuracy"].as_f64().unwrap() > 0.9);
    assert_eq!(models["exported"]["agreement"], 1.0);
    assert_eq!(
        models["exported"]["accuracy"],
        models["student"]["accuracy"]
    );
}
