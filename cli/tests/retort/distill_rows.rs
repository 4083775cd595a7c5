//! `retort distill` and `retort predict` with real processes, a table and a teacher of rows in ONNX.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use artifacts::manifest::ArtifactManifest;
use networks::{NetworkSpec, WeightTensor, Weights, onnx};
use serde_json::Value;
use test_support::{InferenceService, TABLE_CENTERS, TABLE_CLASSES, TABLE_SPREAD, write_table};

use crate::distill::text;

const ROWS_PER_CLASS: usize = 60;

/// A folder with a table and a teacher for it.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        write_table(&scene.path("table.csv"), ROWS_PER_CLASS, true);
        fs::write(scene.path("teacher.onnx"), teacher()).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Distils, which must succeed; returns the output.
    fn distill(&self, out: &str, arguments: &[&str]) -> String {
        let classes = format!("model.preprocessing.class_names={TABLE_CLASSES:?}");
        let mut command = retort("distill");
        command.arg("--teacher").arg(self.path("teacher.onnx"));
        command.args(["--teacher-set", "model.preprocessing.output=logits"]);
        command.args(["--teacher-set", &classes]);
        command.arg("--data").arg(self.path("table.csv"));
        command.arg("--out").arg(self.path(out));
        command.args(["--student", "mlp", "--width", "0.25", "--epochs", "10"]);
        command.args(["--fine-tune-epochs", "1", "--batch-size", "16"]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    fn model(&self, out: &str) -> Vec<u8> {
        fs::read(self.path(out).join("run/artifact/model.onnx")).unwrap()
    }
}

/// A linear network whose largest logit is that of the nearest center, in units of the spread: for the squared
/// distance of x from a center m, that is m·x − m²/2. The constant value does not count.
fn teacher() -> Vec<u8> {
    let spec = "input = [4]\nclasses = 3\n[[layers]]\ntype = \"linear\"\nfeatures = 3";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for center in TABLE_CENTERS {
        let scaled = center.iter().zip(TABLE_SPREAD);
        let row = scaled.map(|(m, spread)| {
            if spread > 0.0 {
                m / spread.powi(2)
            } else {
                0.0
            }
        });
        let row: Vec<f32> = row.collect();
        let product: f32 = row.iter().zip(center).map(|(weight, m)| weight * m).sum();
        bias.push(-product / 2.0);
        weight.extend(row);
    }
    let initial = Weights::initial(&spec, 1).unwrap();
    let tensors = initial.iter().map(|(name, tensor)| {
        let data = match tensor.shape.len() {
            1 => bias.clone(),
            _ => weight.clone(),
        };
        let shape = tensor.shape.clone();
        (name.to_owned(), WeightTensor { shape, data })
    });
    let weights = Weights::from_tensors(tensors, &spec).unwrap();
    onnx::export(&spec, &weights).unwrap()
}

fn retort(command: &str) -> Command {
    let mut retort = Command::new(env!("CARGO_BIN_EXE_retort"));
    retort.arg(command);
    retort
}

fn predict(service: &InferenceService, model: &str, file: &Path) -> Output {
    let mut command = retort("predict");
    command.args(["--url", &service.address("grpc"), "--model", model]);
    command.arg(file).output().unwrap()
}

/// The lines of JSON of a prediction, which must succeed.
fn predictions(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(output));
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn a_table_and_a_teacher_of_rows_become_a_served_student() {
    let scene = Scene::new();
    let store = scene.path("store");
    fs::create_dir(&store).unwrap();
    let service = InferenceService::start(env!("CARGO_BIN_EXE_retort"), &store);
    let admin = service.address("admin");
    let output = scene.distill("student", &["--publish", &admin, "--model", "parcels"]);
    assert!(output.contains("student, exported (ONNX)"), "{output}");

    let summary = fs::read(scene.path("student/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let models = &summary["models"];
    assert_eq!(models["teacher"]["accuracy"], 1.0, "{summary}");
    assert!(
        models["student"]["accuracy"].as_f64().unwrap() > 0.9,
        "{summary}"
    );
    assert_eq!(
        models["exported"]["accuracy"],
        models["student"]["accuracy"]
    );

    let manifest = fs::read(scene.path("student/run/artifact/manifest.json")).unwrap();
    let manifest = ArtifactManifest::from_json(&manifest).unwrap();
    assert_eq!(manifest.input().to_string(), "`input` FP32 [batch, 4]");
    // In the order of the labels, whatever the teacher's.
    assert_eq!(manifest.class_names, ["large", "medium", "small"]);

    let labelled = predict(&service, "parcels", &scene.path("table.csv"));
    let found = predictions(&labelled);
    assert_eq!(found.len(), 3 * ROWS_PER_CLASS);
    let right = found
        .iter()
        .filter(|row| row["label"] == row["classes"][0]["class_name"]);
    let right = right.count();
    assert!(right * 20 > found.len() * 19, "{right}");
    assert_eq!(found[70]["row"], 70);
    let summary = format!("{right} of {} rows are predicted as labelled", found.len());
    assert!(text(&labelled).contains(&summary), "{}", text(&labelled));

    // Without the labels, and in a file that names no label.
    write_table(&scene.path("new.csv"), ROWS_PER_CLASS, false);
    let unlabelled = predictions(&predict(&service, "parcels", &scene.path("new.csv")));
    assert!(unlabelled.iter().all(|row| row.get("label").is_none()));
    let classes =
        |rows: &[Value]| -> Vec<Value> { rows.iter().map(|row| row["classes"].clone()).collect() };
    assert_eq!(classes(&unlabelled), classes(&found));

    // The same command gives the same bytes; another seed does not.
    scene.distill("again", &[]);
    scene.distill("other", &["--seed", "2"]);
    assert!(scene.model("again") == scene.model("student"));
    assert!(scene.model("other") != scene.model("student"));

    refusals(&scene, &service);
}

/// What a model of rows, or of images, does not take.
fn refusals(scene: &Scene, service: &InferenceService) {
    let (picture, narrow) = (scene.path("picture.png"), scene.path("narrow.csv"));
    image::GrayImage::new(28, 28).save(&picture).unwrap();
    fs::write(&narrow, "a,b,label\n1,2,small\n").unwrap();
    let table = scene.path("table.csv");
    for (model, file, expected) in [
        (
            "parcels",
            &picture,
            "the model takes no images but rows of numbers",
        ),
        ("parcels", &narrow, "the model takes rows of 4 values"),
        ("model", &table, "model `model` takes images"),
    ] {
        let refused = predict(service, model, file);
        assert!(!refused.status.success());
        assert!(text(&refused).contains(expected), "{}", text(&refused));
    }
    let mut both = retort("predict");
    both.args(["--url", &service.address("grpc"), "--model", "parcels"]);
    let both = both.arg(&table).arg(&picture).output().unwrap();
    assert_eq!(both.status.code(), Some(64));
    assert!(
        text(&both).contains("either images or tables"),
        "{}",
        text(&both)
    );
}
