//! Data, teacher and configuration of recordings, and the commands that tests run on them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use test_support::{
    Process, Teacher,
    run_toml::{PhaseToml, RunToml, SOFT_CROSS_ENTROPY},
    write_artifact, write_idx,
};

pub const TRAINER: &str = env!("CARGO_BIN_EXE_student-trainer");

static TEACHER: LazyLock<PathBuf> =
    LazyLock::new(|| test_support::built_beside(TRAINER, "teacher-service"));

/// Not a multiple of batch or shard size, so the last batch and the last shard are smaller.
pub const SAMPLES: usize = 331;
pub const VIEWS: usize = 3;

const TEACHER_NETWORK: &str =
    "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [16, 32]\nstrides = [1, 2]";

/// A network that takes tens of milliseconds per batch, so that a test can kill a recording.
pub const SLOW_NETWORK: &str =
    "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [48, 48]\nstrides = [1, 1]";

/// A folder with a data set, a teacher's artifact, a configuration, runs and recordings.
pub struct Scene(tempfile::TempDir);

impl Scene {
    pub fn new() -> Self {
        Self::with_teacher(TEACHER_NETWORK)
    }

    pub fn with_teacher(network: &str) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        write_idx(&scene.path("data"), SAMPLES, [28, 28]);
        write_artifact(&scene.path("teacher"), network, 1);
        let tables = format!(
            "[data]\npath = \"{}\"\n\
             [soft_targets]\nviews = {VIEWS}\nfolder = \"{}\"\nsamples_per_shard = 50\n\
             [export]\nonnx = false",
            scene.path("data").display(),
            scene.path("targets").display(),
        );
        let config = RunToml {
            keys: "threads = 1\nprecision = \"f32\"",
            network: "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [4, 8]",
            phases: &[
                PhaseToml {
                    epochs: 5,
                    batch_size: 40,
                    loss: SOFT_CROSS_ENTROPY,
                    optimizer: "{ kind = \"sgd\", momentum = 0.9, nesterov = true }",
                    schedule: "{ kind = \"constant\", learning_rate = 0.05 }",
                    ..PhaseToml::default()
                },
                PhaseToml {
                    batch_size: 64,
                    loss: "{ kind = \"kd\", temperature = 2.0, alpha = 0.5 }",
                    schedule: "{ kind = \"constant\", learning_rate = 0.01 }",
                    ..PhaseToml::default()
                },
            ],
            tables: &tables,
        };
        fs::write(scene.path("run.toml"), config.to_string()).unwrap();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn teacher(&self) -> Teacher {
        self.teacher_with("auto")
    }

    pub fn teacher_with(&self, precision: &str) -> Teacher {
        let precision = format!("compute.precision={precision}");
        Teacher::start(&TEACHER, &self.path("teacher"), &[&precision])
    }

    /// Starts a teacher with `network` and other weights, in full precision; its artifact is called `name`.
    pub fn other_teacher(&self, name: &str, network: &str) -> Teacher {
        let artifact = self.path(name);
        write_artifact(&artifact, network, 2);
        Teacher::start(&TEACHER, &artifact, &["compute.precision=f32"])
    }

    pub fn command(&self, command: &str, settings: &[&str]) -> Command {
        let mut process = Command::new(TRAINER);
        process.current_dir(self.path(""));
        process.arg(command).arg(self.path("run.toml"));
        for setting in settings {
            process.args(["--set", setting]);
        }
        process
    }

    /// Runs to the end. Returns the weights and the standard error.
    pub fn run(&self, name: &str, settings: &[&str]) -> (Vec<u8>, String) {
        let folder = self.path(name);
        let mut command = self.command("run", settings);
        command.arg("--output").arg(&folder);
        let output = finish(command);
        let weights = fs::read(folder.join("artifact/weights.safetensors")).unwrap();
        (weights, output)
    }

    /// Runs a command that must fail. Returns the last line of its standard error.
    pub fn run_fails(&self, name: &str, settings: &[&str]) -> String {
        let mut command = self.command("run", settings);
        command.arg("--output").arg(self.path(name));
        fails(command)
    }

    /// Records to the end. Returns the standard error.
    pub fn record(&self, settings: &[&str]) -> String {
        finish(self.command("record", settings))
    }

    /// The files of all recordings in `store`, without locks.
    pub fn shards(&self, store: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.path(store))
    }
}

/// Runs a command that must succeed. Returns its standard error.
pub fn finish(command: Command) -> String {
    let mut process = Process::start(command);
    let status = process.wait();
    let output = process.stderr();
    assert!(status.success(), "{output}");
    output
}

pub fn fails(command: Command) -> String {
    let mut process = Process::start(command);
    let status = process.wait();
    let output = process.stderr();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(!output.contains("panicked"), "{output}");
    output.lines().last().unwrap_or_default().to_owned()
}

/// Returns the files of all recordings in `store` with their contents, without locks.
pub fn files(store: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(store, store, &mut found);
    found
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if !path.ends_with(".lock") {
            let name = path.strip_prefix(root).unwrap().to_owned();
            // A temporary file may have been removed meanwhile.
            if let Ok(bytes) = fs::read(&path) {
                found.insert(name, bytes);
            }
        }
    }
}

pub fn endpoints(teacher: &Teacher) -> String {
    format!("teacher={{ endpoints = [\"{}\"] }}", teacher.grpc)
}

pub fn encoded(teacher: &Teacher, encoding: &str) -> String {
    let address = teacher.grpc;
    format!("teacher={{ endpoints = [\"{address}\"], encoding = \"{encoding}\" }}")
}

pub fn manifest(scene: &Scene, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(scene.path(name).join("manifest.json")).unwrap()).unwrap()
}
