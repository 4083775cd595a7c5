//! `retort distill` with real processes, pictures in files and a teacher in ONNX.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use artifacts::manifest::ArtifactManifest;
use common::digest::Sha256;
use datasets::{InMemoryImages, Source, Split, load_idx};
use image::GrayImage;
use networks::{NetworkSpec, Weights, onnx};
use serde_json::Value;
use test_support::InferenceService;

/// Classes of the pictures: the first of Fashion-MNIST.
const CLASSES: [&str; 3] = ["shirt", "trouser", "pullover"];
/// Pictures of each class.
const PICTURES: usize = 30;

/// Settings of the teacher service.
const CARD: &str = r#"
[model.preprocessing]
scale = "unit"
mean = [0.3, 0.3, 0.3]
std = [0.35, 0.35, 0.35]
channel_order = "rgb"
output = "logits"
"#;

/// A folder with pictures and a teacher.
pub struct Scene(tempfile::TempDir);

impl Scene {
    pub fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        scene.write_teacher();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An untrained network for color images of 40 pixels; which logits it gives does not matter here.
    fn write_teacher(&self) {
        let spec = "input = [3, 40, 40]\nclasses = 3\npreset = \"cnn\"\nwidths = [8, 16]";
        let spec = NetworkSpec::from_toml(spec).unwrap();
        let weights = Weights::initial(&spec, 3).unwrap();
        let model = onnx::export(&spec, &weights).unwrap();
        fs::write(self.path("teacher.onnx"), model).unwrap();
        fs::write(self.path("teacher.toml"), CARD).unwrap();
    }

    /// Writes real pictures as PNG files of several sizes, in one folder per class or without classes.
    pub fn write_pictures(&self, name: &str, with_classes: bool) -> PathBuf {
        let folder = self.path(name);
        let images = fashion_mnist();
        for (class, class_name) in CLASSES.iter().enumerate() {
            let of_class = (0..images.len() as u32)
                .filter(|sample| images.label(*sample) == Some(class as u32))
                .take(PICTURES);
            for (number, sample) in of_class.enumerate() {
                let pixels = images.image(sample as usize).to_vec();
                let picture = GrayImage::from_raw(28, 28, pixels).unwrap();
                let width = 28 + 4 * (number % 3) as u32;
                let filter = image::imageops::FilterType::Triangle;
                let picture = image::imageops::resize(&picture, width, 28, filter);
                let below = if with_classes { *class_name } else { "" };
                let parent = folder.join(below);
                fs::create_dir_all(&parent).unwrap();
                picture
                    .save(parent.join(format!("{class}-{number}.png")))
                    .unwrap();
            }
        }
        folder
    }

    fn distill(&self, data: &Path, out: &str, arguments: &[&str]) -> Output {
        let mut command = self.command("distill", data, out);
        command.args(arguments).output().unwrap()
    }

    /// `retort distill` or `retort init` with the flags of a short distillation.
    pub fn command(&self, name: &str, data: &Path, out: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
        command
            .arg(name)
            .arg("--teacher")
            .arg(self.path("teacher.onnx"));
        command
            .arg("--teacher-config")
            .arg(self.path("teacher.toml"));
        // In another order than the folders are sorted.
        let names = "class_names=[\"trouser\", \"shirt\", \"pullover\"]";
        command.arg(format!("--teacher-set=model.preprocessing.{names}"));
        command
            .arg("--data")
            .arg(data)
            .arg("--out")
            .arg(self.path(out));
        command.args(["--size", "28", "--gray", "--width", "0.25", "--epochs", "2"]);
        command.args(["--fine-tune-epochs", "1", "--batch-size", "16"]);
        command
    }

    /// Distils, which must succeed; returns the output and the summary.
    pub fn distilled(&self, data: &Path, out: &str, arguments: &[&str]) -> (String, Value) {
        let output = self.distill(data, out, arguments);
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        let summary = fs::read(self.path(out).join("summary.json")).unwrap();
        (text, serde_json::from_slice(&summary).unwrap())
    }

    /// The student's weights at the end of the run.
    fn weights(&self, out: &str) -> PathBuf {
        self.path(out).join("run/artifact/weights.safetensors")
    }

    fn model(&self, out: &str) -> Sha256 {
        Sha256::of(&fs::read(self.path(out).join("run/artifact/model.onnx")).unwrap())
    }
}

fn fashion_mnist() -> InMemoryImages {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/fashion-mnist");
    let names: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    load_idx(&folder, Split::Test, &names).expect("scripts/setup was run")
}

pub fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[test]
fn a_folder_of_pictures_and_a_teacher_of_another_size_become_a_served_student() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", true);
    fs::write(photos.join("shirt/broken.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let store = scene.path("store");
    fs::create_dir(&store).unwrap();
    let inference = InferenceService::start(env!("CARGO_BIN_EXE_retort"), &store);
    let admin = inference.address("admin");
    let publish = ["--publish", admin.as_str(), "--model", "clothes"];
    // One of 91 files is above the default share, so the run must say so first.
    let refused = scene.distill(&photos, "refused", &publish);
    assert!(!refused.status.success());
    assert!(text(&refused).contains("broken.png"), "{}", text(&refused));
    fs::remove_file(photos.join("shirt/broken.png")).unwrap();

    let (output, summary) = scene.distilled(&photos, "student", &publish);
    assert!(output.contains("student, exported (ONNX)"), "{output}");
    assert_eq!(summary["test_samples"], 9);
    assert_eq!(summary["labelled_samples"], summary["training_samples"]);
    let models = &summary["models"];
    assert_eq!(models["teacher"]["agreement"], 1.0);
    assert!(models["student"]["accuracy"].is_number(), "{summary}");
    assert_eq!(
        models["exported"]["agreement"],
        models["student"]["agreement"]
    );

    let page = fs::read_to_string(scene.path("student/report.html")).unwrap();
    for part in [
        "teacher.onnx",
        "Confusion matrix",
        "Calibration",
        "Provenance",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let comparison = scene.path("comparison.html");
    let mut compare = Command::new(env!("CARGO_BIN_EXE_retort"));
    compare.args(["runs", "compare"]).arg(scene.path("student"));
    let compared = compare.arg("--html").arg(&comparison).output().unwrap();
    assert!(compared.status.success(), "{}", text(&compared));
    assert!(text(&compared).contains("finished"), "{}", text(&compared));
    assert!(fs::read_to_string(&comparison).unwrap().contains("<svg"));

    let manifest = fs::read(scene.path("student/run/artifact/manifest.json")).unwrap();
    let manifest = ArtifactManifest::from_json(&manifest).unwrap();
    // In the order of the folders, whatever the teacher's.
    assert_eq!(manifest.class_names, ["pullover", "shirt", "trouser"]);
    assert!(manifest.provenance.teacher.is_some());
    assert_eq!(manifest.preprocessing.unwrap().ground, [255; 3]);

    let picture = photos.join("trouser/1-0.png");
    let mut predict = Command::new(env!("CARGO_BIN_EXE_retort"));
    predict.args([
        "predict",
        "--model",
        "clothes",
        "--url",
        &inference.address("grpc"),
    ]);
    let predicted = predict.arg(&picture).output().unwrap();
    assert!(predicted.status.success(), "{}", text(&predicted));
    assert!(CLASSES.iter().any(|class| text(&predicted).contains(class)));

    // The same command gives the same bytes; another seed does not.
    scene.distilled(&photos, "again", &[]);
    scene.distilled(&photos, "other", &["--seed", "2"]);
    assert_eq!(scene.model("again"), scene.model("student"));
    assert_ne!(scene.model("other"), scene.model("student"));

    // The student in int8 is evaluated beside the others, and is a model of its own.
    let (output, summary) = scene.distilled(&photos, "small", &["--int8"]);
    assert!(output.contains("student, int8 (ONNX)"), "{output}");
    let models = &summary["models"];
    assert!(models["int8"]["accuracy"].is_number(), "{summary}");
    assert_ne!(models["int8"]["bytes"], models["exported"]["bytes"]);
    assert_eq!(scene.model("small"), scene.model("student"));

    // The weights of one student are the first ones of another.
    let weights = scene.weights("student");
    let weights = weights.to_str().unwrap();
    let (output, _) = scene.distilled(&photos, "continued", &["--student-init", weights]);
    assert!(output.contains("with Retort's names"), "{output}");
    assert_ne!(scene.model("continued"), scene.model("student"));
}

#[test]
fn a_student_that_misses_a_bound_is_complete_and_not_published() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", true);
    let store = scene.path("store");
    fs::create_dir(&store).unwrap();
    let inference = InferenceService::start(env!("CARGO_BIN_EXE_retort"), &store);
    let admin = inference.address("admin");
    let publish = ["--publish", admin.as_str(), "--model", "clothes"];
    let distill = |out: &str, bounds: &[&str]| {
        let output = scene.distill(&photos, out, &[&publish[..], bounds].concat());
        (output.status.code(), text(&output))
    };
    let bounds = ["--min-agreement", "0", "--max-latency-us", "0.001"];
    let (code, said) = distill("slow", &bounds);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("is above publish.gate.max_latency_us = 0.001")
            && !said.contains("min_agreement"),
        "{said}"
    );
    assert!(!said.contains("Distilling ended while"), "{said}");
    // The student is evaluated nevertheless.
    assert!(scene.path("slow/summary.json").exists());
    assert!(!store.join("models/clothes").exists());

    let (code, said) = distill("fast", &["--min-agreement", "0", "--max-latency-us", "1e9"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(store.join("models/clothes/1").exists());

    let (code, said) = distill("none", &["--baseline", "no-such-run"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no-such-run") && !scene.path("none").exists(),
        "{said}"
    );
}

#[test]
fn pictures_without_labels_are_distilled_without_fine_tuning() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", false);
    let (output, summary) = scene.distilled(&photos, "student", &["--ground", "black"]);
    assert!(
        output.contains("no labels") && !output.contains("fine-tune"),
        "{output}"
    );
    // It is not known.
    assert!(!output.contains("training accuracy"), "{output}");
    assert_eq!(summary["labelled_samples"], 0);
    assert_eq!(summary["test_samples"], 9);
    let student = &summary["models"]["student"];
    assert!(
        student["accuracy"].is_null() && student["agreement"].is_number(),
        "{summary}"
    );
    let page = fs::read_to_string(scene.path("student/report.html")).unwrap();
    assert!(page.contains("No sample has a label"), "{page}");
    let manifest = fs::read(scene.path("student/run/artifact/manifest.json")).unwrap();
    let manifest = ArtifactManifest::from_json(&manifest).unwrap();
    // Those of the teacher.
    assert_eq!(manifest.class_names, ["trouser", "shirt", "pullover"]);
    assert_eq!(manifest.preprocessing.unwrap().ground, [0; 3]);
}

#[test]
fn what_cannot_be_distilled_is_named_and_nothing_is_left_running() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", true);
    fs::rename(photos.join("shirt"), photos.join("blouse")).unwrap();
    let renamed = scene.distill(&photos, "renamed", &[]);
    let said = text(&renamed);
    assert_eq!(renamed.status.code(), Some(64), "{said}");
    assert!(
        said.contains("blouse") && said.contains("trouser"),
        "{said}"
    );

    let rows = scene.distill(&photos, "rows", &["--student", "mlp"]);
    assert!(
        text(&rows).contains("takes rows of numbers"),
        "{}",
        text(&rows)
    );

    let wide = scene.distill(&photos, "wide", &["--student", "resnet18"]);
    assert!(text(&wide).contains("leave out --width"), "{}", text(&wide));
    let no_weights = ["--student-init", "no-weights.safetensors"];
    let no_weights = scene.distill(&photos, "no weights", &no_weights);
    assert!(
        text(&no_weights).contains("no-weights.safetensors"),
        "{}",
        text(&no_weights)
    );

    let colorful = scene.distill(&photos, "colorful", &["--ground", "colorful"]);
    assert_eq!(colorful.status.code(), Some(64));
    assert!(text(&colorful).contains("#rrggbb"), "{}", text(&colorful));

    let nothing = scene.distill(&scene.path("nowhere"), "nothing", &[]);
    assert!(text(&nothing).contains("nowhere"), "{}", text(&nothing));
    assert!(!scene.path("nothing").exists());

    fs::write(scene.path("teacher.onnx"), b"no model").unwrap();
    fs::rename(photos.join("blouse"), photos.join("shirt")).unwrap();
    let damaged = scene.distill(&photos, "damaged", &[]);
    assert!(
        text(&damaged).contains("teacher.onnx"),
        "{}",
        text(&damaged)
    );
}
