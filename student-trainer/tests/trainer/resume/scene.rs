//! A small run of three phases, and the files that it writes.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use student_trainer::run::RunManifest;

use test_support::{
    Process, SOON, Teacher, built_beside,
    run_toml::{CROSS_ENTROPY, MOMENTUM, PhaseToml, RunToml},
    write_artifact, write_idx,
};

pub const TRAINER: &str = env!("CARGO_BIN_EXE_student-trainer");

static TEACHER: LazyLock<PathBuf> = LazyLock::new(|| built_beside(TRAINER, "teacher-service"));
pub static RETORT: LazyLock<PathBuf> = LazyLock::new(|| built_beside(TRAINER, "retort"));

pub const PHASES: [&str; 3] = ["supervised", "distill", "fine_tune"];
pub const EPOCHS: u64 = 2;
/// Steps per epoch.
pub const STEPS: u64 = 40;
const BATCH_SIZE: usize = 16;
const VALIDATION_SAMPLES: usize = 60;

/// A network with every kind of state and random choice: convolutions, batch-norm, a residual, dropout.
const STUDENT: &str = "input = [1, 12, 12]\nclasses = 10\npreset = \"resnet\"\n\
                       widths = [4, 8]\nstem_stride = 2\ndropout = 0.1";
const TEACHER_NETWORK: &str = "input = [1, 12, 12]\nclasses = 10\npreset = \"cnn\"\nwidths = [8]";
/// Of the second teacher, which takes images of another size.
const WIDE_NETWORK: &str = "input = [1, 8, 8]\nclasses = 10\npreset = \"cnn\"\nwidths = [6]";

/// A folder with a data set, a teacher's artifact, a configuration and the folders of runs.
pub struct Scene(tempfile::TempDir);

/// A position in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// 0-based.
    pub phase: usize,
    /// Number of finished steps of the phase.
    pub step: u64,
}

/// The results of a run that must not depend on interruptions.
#[derive(PartialEq)]
pub struct Result {
    files: BTreeMap<&'static str, Vec<u8>>,
    consumed: Vec<String>,
    /// Events without fields that depend on time.
    pub events: Vec<Value>,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        let samples = BATCH_SIZE * STEPS as usize + VALIDATION_SAMPLES;
        write_idx(&scene.path("data"), samples, [12, 12]);
        write_artifact(&scene.path("teacher"), TEACHER_NETWORK, 1);
        fs::write(scene.path("run.toml"), scene.config()).unwrap();
        scene
    }

    /// A scene whose runs need no teacher.
    pub fn without_teacher() -> Self {
        let scene = Self::new();
        let config = scene.config();
        let soft = "kind = \"kd\", temperature = 2.0, alpha = 0.9";
        let (head, teacher) = config.split_once("[teacher]").unwrap();
        assert!(head.contains(soft) && !teacher.contains("[["));
        let config = head.replace(soft, "kind = \"cross_entropy\"");
        fs::write(scene.path("run.toml"), config).unwrap();
        scene
    }

    /// A scene whose runs have two teachers, `big` and `wide`: the terms of the second phase learn from both together,
    /// and for each sample from that of its class. See [`Self::both_teachers`].
    pub fn with_two_teachers() -> Self {
        let scene = Self::new();
        write_artifact(&scene.path("wide"), WIDE_NETWORK, 3);
        scene.replace(
            "{ kind = \"kd\", temperature = 2.0, alpha = 0.9 }",
            "[{ kind = \"kd\", temperature = 2.0, weight = 0.6, teacher = \"both\" }, \
             { kind = \"kd\", temperature = 4.0, weight = 0.3, teacher = \"by_class\" }, \
             { kind = \"cross_entropy\", weight = 0.1 }]",
        );
        scene.replace(
            "[teacher]\nendpoints = []\nwait_timeout_seconds = 60",
            "[teachers.big]\nendpoints = []\nwait_timeout_seconds = 60\n\
             [teachers.wide]\nendpoints = []\nwait_timeout_seconds = 60\n\
             [ensembles.both]\nteachers = { big = 0.7, wide = 0.3 }\n\
             [routes.by_class]\nby = \"class\"\ndefault = \"wide\"\n\
             teachers = { big = [\"Bag\", \"Coat\", \"Sandal\"] }",
        );
        scene
    }

    /// Replaces the first `from` in the configuration.
    pub fn replace(&self, from: &str, to: &str) {
        let file = self.path("run.toml");
        let config = fs::read_to_string(&file).unwrap();
        assert!(config.contains(from), "{from} is not in: {config}");
        fs::write(file, config.replacen(from, to, 1)).unwrap();
    }

    /// The configuration without the teachers' endpoints.
    pub fn config(&self) -> String {
        let phase = |name, loss, schedule| PhaseToml {
            name: Some(name),
            epochs: EPOCHS as usize,
            batch_size: BATCH_SIZE,
            loss,
            optimizer: MOMENTUM,
            schedule,
        };
        let tables = format!(
            "[data]\npath = \"{}\"\nvalidation_samples = {VALIDATION_SAMPLES}\n\
             [checkpoints]\nevery_steps = 7\n\
             [teacher]\nendpoints = []\nwait_timeout_seconds = 60",
            self.path("data").display(),
        );
        let config = RunToml {
            keys: "threads = 1\nprecision = \"f32\"",
            network: STUDENT,
            phases: &[
                phase(
                    "supervised",
                    CROSS_ENTROPY,
                    "{ kind = \"one_cycle\", max_learning_rate = 0.05 }",
                ),
                phase(
                    "distill",
                    "{ kind = \"kd\", temperature = 2.0, alpha = 0.9 }",
                    "{ kind = \"cosine\", learning_rate = 0.05 }",
                ),
                phase(
                    "fine_tune",
                    CROSS_ENTROPY,
                    "{ kind = \"constant\", learning_rate = 0.005 }",
                ),
            ],
            tables: &tables,
        };
        config.to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn teacher(&self) -> Teacher {
        Teacher::start(&TEACHER, &self.path("teacher"), &[])
    }

    /// Starts the second teacher of [`Self::with_two_teachers`].
    pub fn wide_teacher(&self) -> Teacher {
        Teacher::start(&TEACHER, &self.path("wide"), &[])
    }

    /// The settings of a run of [`Self::with_two_teachers`] with these teachers.
    pub fn both_teachers(big: &Teacher, wide: &Teacher) -> [String; 2] {
        [("big", big), ("wide", wide)]
            .map(|(name, teacher)| format!("teachers.{name}.endpoints=[\"{}\"]", teacher.grpc))
    }

    /// Starts a teacher with the same architecture and other weights.
    pub fn foreign_teacher(&self) -> Teacher {
        let artifact = self.path("foreign teacher");
        write_artifact(&artifact, TEACHER_NETWORK, 2);
        Teacher::start(&TEACHER, &artifact, &[])
    }

    pub fn teacher_at(&self, address: &str) -> Teacher {
        Teacher::start_at(&TEACHER, &self.path("teacher"), address, &[])
    }

    pub fn command(&self, name: &str, teachers: &[&Teacher], settings: &[&str]) -> Command {
        let mut command = Command::new(TRAINER);
        command.arg("run").arg(self.path("run.toml"));
        command.arg("--output").arg(self.path(name));
        if !teachers.is_empty() {
            let endpoints: Vec<_> = teachers.iter().map(|it| it.grpc.to_string()).collect();
            command.args(["--set", &format!("teacher.endpoints={endpoints:?}")]);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Starts or resumes the run called `name`.
    pub fn start(&self, name: &str, teachers: &[&Teacher]) -> Process {
        Process::start(self.command(name, teachers, &[]))
    }

    /// Starts or resumes the run called `name` with `settings` alone.
    pub fn start_with(&self, name: &str, settings: &[&str]) -> Process {
        Process::start(self.command(name, &[], settings))
    }

    /// Starts or resumes the run called `name` and waits for its end.
    pub fn finish(&self, name: &str, teachers: &[&Teacher], settings: &[&str]) -> Result {
        let done = self.command(name, teachers, settings).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        self.result(name)
    }

    pub fn result(&self, name: &str) -> Result {
        self.result_in(&self.path(name))
    }

    /// Reads the results of the finished run in `folder`.
    pub fn result_in(&self, folder: &Path) -> Result {
        let manifest: RunManifest =
            serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        let phases = manifest.phases.iter();
        let read = |file| (file, fs::read(folder.join(file)).unwrap());
        Result {
            files: [
                "artifact/weights.safetensors",
                "artifact/model.onnx",
                "phases/0-supervised/weights.safetensors",
                "phases/1-distill/weights.safetensors",
                "phases/2-fine_tune/weights.safetensors",
            ]
            .map(read)
            .into(),
            consumed: phases.map(|it| it.consumed_sha256.to_string()).collect(),
            events: timeless_events(folder),
        }
    }

    /// Runs `retort run --verify` on the run's folder.
    pub fn verify(&self, name: &str) -> Output {
        let mut command = Command::new(&*RETORT);
        let command = command.args(["run", "--verify"]).arg(self.path(name));
        command.output().unwrap()
    }

    /// The current position of the run, or its last one if it was killed.
    pub fn place(&self, name: &str) -> Option<Place> {
        let events = events(&self.path(name));
        let progress = events
            .iter()
            .rev()
            .find(|it| it["event"] == "step_progress")?;
        let number = |key: &str| progress[key].as_u64().unwrap();
        Some(Place {
            phase: number("phase") as usize,
            step: (number("epoch") - 1) * STEPS + number("step"),
        })
    }

    /// Waits until the run has reached `aim`.
    pub fn wait_for(&self, name: &str, aim: Place, process: &mut Process) {
        let deadline = Instant::now() + SOON;
        let is_there = |place: Place| (place.phase, place.step) >= (aim.phase, aim.step);
        loop {
            // Checked first, because the run may reach the aim and end between the two checks.
            let is_running = process.is_running();
            if self.place(name).is_some_and(is_there) {
                return;
            }
            assert!(Instant::now() < deadline, "not reached: {aim:?}");
            assert!(is_running, "{}", process.stderr());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the run was in the middle of `phase` when it ended.
    pub fn ended_within(&self, name: &str, phase: usize) -> bool {
        let place = self.place(name).unwrap();
        place.phase == phase && (1..EPOCHS * STEPS).contains(&place.step)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} of {}", self.step, PHASES[self.phase])
    }
}

/// Prints no bytes, only data that shows where two results differ.
impl fmt::Debug for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digests = self
            .files
            .iter()
            .map(|(name, bytes)| (name, common::digest::Sha256::of(bytes)));
        f.debug_map().entries(digests).finish()?;
        write!(f, " {:?}", self.consumed)?;
        for event in &self.events {
            write!(f, "\n{event}")?;
        }
        Ok(())
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the files of the checkpoints, oldest first.
pub fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    // The first checkpoint creates the folder.
    let Ok(entries) = fs::read_dir(folder.join("checkpoints")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // A process that is killed while it writes leaves a file with another name.
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|it| it == "safetensors");
    files.retain(is_whole);
    files.sort();
    files
}

/// Returns the events in the complete lines of `metrics.jsonl`.
pub fn events(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Returns the events of phases, progress and epochs without times. Notices are left out, because they
/// report interruptions.
fn timeless_events(folder: &Path) -> Vec<Value> {
    let mut events = events(folder);
    events.retain(|event| event["event"] != "notice");
    for event in &mut events {
        let fields = event.as_object_mut().unwrap();
        for timed in [
            "seconds",
            "samples_per_second",
            "teacher_wait_share",
            "data_wait_share",
            "teachers",
        ] {
            fields.remove(timed);
        }
    }
    events
}

/// Returns an address that a service can use again after it was killed.
pub fn fixed_address() -> String {
    test_support::unused_address()
}
