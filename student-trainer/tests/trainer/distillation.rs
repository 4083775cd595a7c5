//! A student's run and its teachers, as real processes on a small data set.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use test_support::{
    Process, Teacher, eventually, metric,
    run_toml::{MOMENTUM, PhaseToml, RunToml, SOFT_CROSS_ENTROPY},
    unused_address, write_artifact, write_idx,
};

pub const TRAINER: &str = env!("CARGO_BIN_EXE_student-trainer");

pub static TEACHER: LazyLock<PathBuf> =
    LazyLock::new(|| test_support::built_beside(TRAINER, "teacher-service"));

/// Time limit for a whole run; long enough for a loaded machine.
const LONGEST_RUN: Duration = Duration::from_secs(600);

pub const BATCH_SIZE: usize = 32;

/// A network that takes tens of milliseconds per batch, so that tests can disturb a run.
pub const TEACHER_NETWORK: &str =
    "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [48, 48]\nstrides = [1, 1]";

/// The size of a scene's runs.
#[derive(Clone, Copy)]
pub struct Size {
    /// Steps per epoch.
    pub steps: usize,
    pub epochs: usize,
    /// Widths of the student's layers.
    pub widths: [usize; 2],
}

/// A folder with a data set, a teacher's artifact, a configuration and the folders of runs.
pub struct Scene(tempfile::TempDir);

impl Scene {
    pub fn new(size: Size) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        write_idx(&scene.path("data"), BATCH_SIZE * size.steps, [28, 28]);
        write_artifact(&scene.artifact(), TEACHER_NETWORK, 1);
        let network = format!(
            "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = {:?}",
            size.widths
        );
        let tables = format!(
            "[data]\npath = \"{}\"\n[teacher]\nendpoints = []\nwait_timeout_seconds = 20",
            scene.path("data").display(),
        );
        let config = RunToml {
            keys: "threads = 1\nprecision = \"f32\"",
            network: &network,
            phases: &[PhaseToml {
                epochs: size.epochs,
                batch_size: BATCH_SIZE,
                loss: SOFT_CROSS_ENTROPY,
                optimizer: MOMENTUM,
                schedule: "{ kind = \"constant\", learning_rate = 0.05 }",
                ..PhaseToml::default()
            }],
            tables: &tables,
        };
        fs::write(scene.path("run.toml"), config.to_string()).unwrap();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn artifact(&self) -> PathBuf {
        self.path("teacher")
    }

    pub fn teacher(&self, settings: &[&str]) -> Teacher {
        Teacher::start(&TEACHER, &self.artifact(), settings)
    }

    /// Starts a run that writes to the folder `name`.
    pub fn run<E: AsRef<str>>(&self, name: &str, endpoints: &[E], settings: &[&str]) -> Run {
        let endpoints: Vec<_> = endpoints.iter().map(E::as_ref).collect();
        let endpoints = format!("teacher.endpoints={endpoints:?}");
        let folder = self.path(name);
        let metrics = unused_address();
        let mut command = Command::new(TRAINER);
        command.arg("run").arg(self.path("run.toml"));
        command.arg("--output").arg(&folder);
        command.args(["--metrics", &metrics]);
        for setting in [endpoints.as_str()].iter().chain(settings) {
            command.args(["--set", setting]);
        }
        Run {
            process: Process::start(command),
            folder,
            metrics: metrics.parse().unwrap(),
        }
    }
}

/// A run in progress.
pub struct Run {
    pub process: Process,
    pub folder: PathBuf,
    metrics: SocketAddr,
}

impl Run {
    /// Waits until the run succeeds and returns its standard error.
    pub fn succeed(mut self) -> String {
        let status = self.process.wait_within(LONGEST_RUN);
        let output = self.process.stderr();
        assert!(status.success(), "{output}");
        output
    }

    /// Waits until the run fails and returns the last line of its standard error.
    pub fn fail(mut self) -> String {
        let status = self.process.wait();
        let output = self.process.stderr();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(!output.contains("panicked"), "{output}");
        output.lines().last().unwrap_or_default().to_owned()
    }

    pub fn says(&self, text: &str) {
        eventually(text, || self.process.stderr().contains(text).then_some(()));
    }

    /// Value of a line of the trainer's metrics while the run is in progress.
    pub fn metric(&self, line: &str) -> f64 {
        self.says("serving metrics");
        metric(self.metrics, line)
    }
}

/// The bytes of a run's student: weights and ONNX model.
pub fn student(folder: &Path) -> [Vec<u8>; 2] {
    ["weights.safetensors", "model.onnx"]
        .map(|file| fs::read(folder.join("artifact").join(file)).unwrap())
}

/// The digest of a run's training data, from its manifest.
pub fn consumed(folder: &Path) -> String {
    let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let digest = manifest["phases"][0]["consumed_sha256"].as_str();
    digest.unwrap().to_owned()
}

pub fn address(teacher: &Teacher) -> String {
    teacher.grpc.to_string()
}
