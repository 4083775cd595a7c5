//! Complete runs of the real program on a part of Fashion-MNIST: bits, folders, errors.

mod delivery;
mod device;
mod int8;
mod optimization;
mod publish_gate;
mod rows;
mod threads;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use artifacts::manifest::ArtifactManifest;
use student_trainer::{config::PhaseKind, run::RunManifest};
use test_support::{
    Process, eventually,
    run_toml::{MOMENTUM, PhaseToml, RunToml},
    unused_address, write_idx,
};

const TRAINER: &str = env!("CARGO_BIN_EXE_student-trainer");

/// The configuration of a small student with dropout, so that it uses every kind of random choice.
fn config() -> String {
    let phase = PhaseToml {
        epochs: 2,
        batch_size: 64,
        optimizer: MOMENTUM,
        schedule: "{ kind = \"one_cycle\", max_learning_rate = 0.1 }",
        ..PhaseToml::default()
    };
    let fine_tuning = PhaseToml {
        name: Some("fine_tune"),
        epochs: 1,
        schedule: "{ kind = \"constant\", learning_rate = 0.01 }",
        ..phase
    };
    let config = RunToml {
        network: "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [4, 8]\n\
                  dropout = 0.1",
        phases: &[phase, fine_tuning],
        tables: "[data]\ntrain_samples = 320\nvalidation_samples = 200",
        ..RunToml::default()
    };
    config.to_string()
}

/// Enough steps to learn something.
const LONGER: [&str; 3] = [
    "data.train_samples=3200",
    "phases[0].batch_size=32",
    "phases[1].batch_size=32",
];

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::write(scene.path("run.toml"), config()).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, output: &str, settings: &[&str]) -> Command {
        let mut command = Command::new(TRAINER);
        command.arg("run").arg(self.path("run.toml"));
        command.arg("--output").arg(self.path(output));
        let data = format!("data.path={}", fashion_mnist().display());
        for setting in [data.as_str()].iter().chain(settings) {
            command.args(["--set", setting]);
        }
        command
    }

    /// Runs to the end, which must succeed. Returns the folder.
    fn run(&self, output: &str, settings: &[&str]) -> PathBuf {
        let done = self.command(output, settings).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        self.path(output)
    }

    /// Starts a run that must fail. Returns its standard error.
    fn failure(&self, output: &str, settings: &[&str]) -> String {
        let done = self.command(output, settings).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
        assert!(!self.path(output).join("manifest.json").exists());
        stderr(&done)
    }
}

fn fashion_mnist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/fashion-mnist")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn manifest(folder: &Path) -> RunManifest {
    serde_json::from_slice(&read(folder, "manifest.json")).unwrap()
}

#[test]
fn the_same_configuration_gives_the_same_bytes_and_another_seed_others() {
    let scene = Scene::new();
    // Thread count and precision are part of the configuration, because they change the bits.
    for settings in [
        ["threads=2", "precision=\"f32\""],
        ["threads=2", "precision=\"bf16\""],
    ] {
        let name = |run: &str| format!("{run} {}", settings[1].replace('"', ""));
        let first = scene.run(&name("first"), &settings);
        let second = scene.run(&name("second"), &settings);
        let other = scene.run(&name("other"), &[settings[0], settings[1], "seed=2"]);
        for file in ["artifact/model.onnx", "artifact/weights.safetensors"] {
            assert!(read(&first, file) == read(&second, file), "{file} differs");
            assert!(
                read(&first, file) != read(&other, file),
                "{file} is the same"
            );
        }
        let consumed = |folder: &Path| -> Vec<_> {
            let phases = manifest(folder).phases.into_iter();
            phases.map(|phase| phase.consumed_sha256).collect()
        };
        assert_eq!(consumed(&first), consumed(&second));
        assert_ne!(consumed(&first), consumed(&other));
        assert_eq!(manifest(&first).model_id, manifest(&second).model_id);
    }
}

#[test]
fn a_run_folder_holds_everything_that_is_promised() {
    let scene = Scene::new();
    let folder = scene.run("run", &LONGER);
    let manifest = manifest(&folder);
    assert_eq!((manifest.seed, manifest.threads), (1, 2));
    assert_eq!(
        (manifest.train_samples, manifest.validation_samples),
        (3200, 200)
    );
    assert!(manifest.bit_reproducible && manifest.teacher.is_none());
    assert!(
        manifest.numerics.contains("libtorch 2."),
        "{}",
        manifest.numerics
    );
    let kinds: Vec<_> = manifest.phases.iter().map(|phase| phase.kind).collect();
    assert_eq!(kinds, [PhaseKind::Supervised, PhaseKind::FineTune]);
    assert_eq!(manifest.phases[0].consumed_samples, 6400);
    assert!(manifest.validation_accuracy().unwrap() > 0.3);

    // The run's weights are those of the last phase, not those of the phase before.
    let weights = read(&folder, "artifact/weights.safetensors");
    assert!(read(&folder, "phases/1-fine_tune/weights.safetensors") == weights);
    assert!(read(&folder, "phases/0-supervised/weights.safetensors") != weights);
    read(&folder, "phases/0-supervised/model.toml");

    let artifact = ArtifactManifest::from_json(&read(&folder, "artifact/manifest.json")).unwrap();
    assert_eq!(artifact.golden_samples(), 8);
    assert_eq!(Some(artifact.onnx.sha256), manifest.onnx_sha256);

    let mut events = BTreeMap::new();
    for line in read(&folder, "metrics.jsonl").split(|byte| *byte == b'\n') {
        if let Ok(event) = serde_json::from_slice::<serde_json::Value>(line) {
            *events
                .entry(event["event"].as_str().unwrap().to_owned())
                .or_insert(0) += 1;
        }
    }
    assert_eq!(events["phase_started"], 2);
    assert_eq!(events["epoch_finished"], 3);

    let again = scene.command("run", &[]).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("already holds a finished run"),
        "{}",
        stderr(&again)
    );
}

#[test]
fn every_problem_of_a_configuration_ends_with_64_and_leaves_no_folder() {
    let scene = Scene::new();
    let settings = ["phases[0].epochs=0", "seed=-1", "network.widths=[0]"];
    let done = scene.command("run", &settings).output().unwrap();
    assert_eq!(done.status.code(), Some(64), "{}", stderr(&done));
    for key in ["phases[0].epochs", "seed", "widths"] {
        assert!(stderr(&done).contains(key), "{key}: {}", stderr(&done));
    }
    assert!(!scene.path("run").exists());
}

#[test]
fn unusable_data_are_named() {
    let scene = Scene::new();
    let write = |name: &str, change: &dyn Fn(&Path)| {
        let folder = scene.path(name);
        write_idx(&folder, 600, [28, 28]);
        change(&folder);
        format!("data.path={}", folder.display())
    };
    let images = "train-images-idx3-ubyte";
    let labels = "train-labels-idx1-ubyte";
    let edit = |folder: &Path, name: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = read(folder, name);
        edit(&mut bytes);
        fs::write(folder.join(name), bytes).unwrap();
    };
    type Case<'c> = (&'c str, &'c dyn Fn(&Path), &'c [&'c str]);
    let cases: [Case<'_>; 5] = [
        (
            "truncated",
            &|folder| edit(folder, images, &|bytes| bytes.truncate(1000)),
            &[images, "truncated"],
        ),
        (
            "magic",
            &|folder| edit(folder, images, &|bytes| bytes[2] = 9),
            &[images, "it begins with"],
        ),
        (
            "count",
            &|folder| {
                edit(folder, labels, &|bytes| {
                    bytes[4..8].copy_from_slice(&599_u32.to_be_bytes());
                    bytes.truncate(8 + 599);
                });
            },
            &[images, "600 images", labels, "599 labels"],
        ),
        (
            "label",
            &|folder| edit(folder, labels, &|bytes| bytes[8] = 77),
            &[labels, "label 77"],
        ),
        (
            "missing",
            &|folder| fs::remove_file(folder.join(labels)).unwrap(),
            &[labels],
        ),
    ];
    for (name, change, parts) in cases {
        let said = scene.failure(&format!("run of {name}"), &[&write(name, change)]);
        for part in parts {
            assert!(said.contains(part), "{name}: {part} is not in: {said}");
        }
    }
    let refused = scene.command("classes", &["network.classes=7"]).output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(64), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("network.classes = 7"));
    let said = scene.failure("too many", &["data.train_samples=70000"]);
    assert!(said.contains("70000"), "{said}");
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_with_step_rate_and_last_good_checkpoint() {
    let scene = Scene::new();
    let rate = "phases[0].schedule.max_learning_rate=1e30";
    let said = scene.failure("run", &[rate, "precision=\"f32\""]);
    for part in [
        "the loss became",
        "phase 0 (supervised)",
        // The first step makes the weights so large that the second overflows.
        "epoch 1, step 2, at learning rate",
        "lower phases[0]'s learning rate or set its gradient_clip_norm",
        "there is no checkpoint yet",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }

    let rate = "phases[1].schedule.learning_rate=1e30";
    let said = scene.failure("later", &[rate, "precision=\"f32\""]);
    let checkpoint = scene.path("later/checkpoints/step-0000000010.safetensors");
    for part in [
        "phase 1 (fine_tune), epoch 1, step 2, at learning rate 1.00e30",
        "lower phases[1]'s learning rate or set its gradient_clip_norm, and choose another output folder",
        &format!("the last good checkpoint is {}", checkpoint.display()),
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(checkpoint.exists());
}

#[test]
fn services_that_are_not_there_are_named() {
    let scene = Scene::new();
    let address = unused_address();
    let said = scene.failure(
        "no teacher",
        &[
            "phases[0].loss={ kind = \"kd\", temperature = 2.0, alpha = 0.5 }",
            &format!("teacher.endpoints=[\"{address}\"]"),
            "teacher.wait_timeout_seconds=1",
        ],
    );
    assert!(said.contains(&address), "{said}");

    let publish = format!("publish={{ endpoint = \"{address}\", model = \"m\" }}");
    let said = scene.failure("no inference service", &[&publish]);
    assert!(
        said.contains(&address) && said.contains("cannot be reached"),
        "{said}"
    );
    // The trained model is kept.
    read(
        &scene.path("no inference service"),
        "artifact/manifest.json",
    );
}

#[test]
fn an_interrupted_run_ends_between_steps_with_a_checkpoint() {
    let scene = Scene::new();
    let mut process = Process::start(scene.command("run", &["phases[0].epochs=100000"]));
    let metrics = scene.path("run/metrics.jsonl");
    eventually("an epoch", || {
        let text = fs::read_to_string(&metrics).unwrap_or_default();
        text.contains("epoch_finished").then_some(())
    });
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    let said = process.stderr();
    assert!(said.contains("stopped; start the same run again"), "{said}");
    assert!(!scene.path("run/artifact").exists() && !scene.path("run/manifest.json").exists());
    // The last two checkpoints and the best by validation accuracy, which may be one of them; a single one
    // if the run was stopped at the end of its first epoch.
    let kept = fs::read_dir(scene.path("run/checkpoints")).unwrap().count();
    assert!((1..=3).contains(&kept), "{kept}");
}

#[test]
fn a_run_continues_when_its_output_has_no_reader() {
    let scene = Scene::new();
    let mut command = scene.command("run", &[]);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    drop(said);
    assert!(process.wait().unwrap().success(), "after {line}");
    read(&scene.path("run"), "manifest.json");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = scene.command("full", &[]).stderr(full).status().unwrap();
    assert!(status.success(), "{status}");
    read(&scene.path("full"), "manifest.json");
}

#[test]
fn a_run_that_waits_for_a_teacher_can_be_interrupted() {
    let scene = Scene::new();
    let endpoints = format!("teacher.endpoints=[\"{}\"]", unused_address());
    let settings = [
        "phases[0].loss={ kind = \"soft_cross_entropy\", temperature = 2.0 }",
        &endpoints,
        "teacher.wait_timeout_seconds=100000",
    ];
    let mut process = Process::start(scene.command("run", &settings));
    eventually("the log of events", || {
        scene.path("run/metrics.jsonl").exists().then_some(())
    });
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    let said = process.stderr();
    assert!(
        said.contains("stopped; there is no checkpoint yet"),
        "{said}"
    );
}

#[test]
fn all_models_are_evaluated_on_the_same_test_images() {
    let scene = Scene::new();
    let run = scene.run("run", &LONGER);
    let report = scene.path("evaluation.json");
    let evaluate = |teacher: &str| {
        let mut command = Command::new(TRAINER);
        command.arg("evaluate").arg("--data").arg(fashion_mnist());
        command
            .arg("--model")
            .arg(format!("student={}", run.display()));
        let first = run.join("phases/0-supervised");
        command
            .arg("--model")
            .arg(format!("first={}", first.display()));
        let onnx = run.join("artifact/model.onnx");
        command
            .arg("--onnx")
            .arg(format!("exported={}", onnx.display()));
        command.args(["--teacher", teacher, "--test-samples", "1000", "--output"]);
        command.arg(&report).output().unwrap()
    };
    let refused = evaluate("nobody");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("--teacher nobody"),
        "{}",
        stderr(&refused)
    );
    assert!(!report.exists());

    let done = evaluate("student");
    assert!(done.status.success(), "{}", stderr(&done));
    let evaluation: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(evaluation["samples"], 1000);
    assert_eq!(evaluation["labels"].as_array().unwrap().len(), 1000);
    let models = &evaluation["models"];
    let student = &models["student"];
    assert!(student["accuracy"].as_f64().unwrap() > 0.3);
    assert_eq!(student["agreement"], 1.0);
    // 4·9 + 2·4, 8·4·9 + 2·8, 8·10 + 10.
    assert_eq!(student["parameters"], 44 + 304 + 90);
    // The exported model is the student, but folding batch-norm may change the order of two equal logits.
    assert!(models["exported"]["agreement"].as_f64().unwrap() >= 0.999);
    let first = models["first"]["agreement"].as_f64().unwrap();
    assert!(first < 1.0, "{first}");
    assert!(models["exported"]["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    let sum = |model: &str, key: &str| {
        let values = models[model][key].as_array().unwrap();
        assert_eq!(values.len(), 1000, "{model} {key}");
        values
            .iter()
            .map(|value| value.as_f64().unwrap())
            .sum::<f64>()
    };
    // The largest of ten probabilities is at least 0.1.
    assert!((100.0..=1000.0).contains(&sum("student", "confidences")));
    assert_eq!(sum("student", "divergences"), 0.0);
    assert!(sum("exported", "divergences") < 0.01);
    assert!(sum("first", "divergences") > 0.01);
    let size = fs::metadata(run.join("artifact/model.onnx")).unwrap().len();
    assert_eq!(models["exported"]["bytes"], size);
}
