//! Recorded soft targets across real processes: the same student as with live teachers, recordings that
//! survive being killed, shards that are repaired one by one.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use support::{Process, Teacher, eventually, unused_address, write_artifact, write_idx};

const TRAINER: &str = env!("CARGO_BIN_EXE_student-trainer");

static TEACHER: LazyLock<PathBuf> =
    LazyLock::new(|| support::built_beside(TRAINER, "teacher-service"));

/// Not a multiple of anything below: every batch and shard has a smaller last one.
const SAMPLES: usize = 331;
const VIEWS: usize = 3;

const TEACHER_NETWORK: &str =
    "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [16, 32]\nstrides = [1, 2]";

/// A batch takes a few tens of milliseconds, so that there is time to kill.
const SLOW_NETWORK: &str =
    "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [48, 48]\nstrides = [1, 1]";

/// A folder with data, a teacher's artifact, a run's configuration, runs and recordings.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self::with_teacher(TEACHER_NETWORK)
    }

    fn with_teacher(network: &str) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        write_idx(&scene.path("data"), SAMPLES, [28, 28]);
        write_artifact(&scene.path("teacher"), network, 1);
        let config = format!(
            r#"
            threads = 1
            precision = "f32"
            [data]
            path = "{data}"
            [network]
            input = [1, 28, 28]
            classes = 10
            preset = "cnn"
            widths = [4, 8]
            [[phases]]
            epochs = 5
            batch_size = 40
            loss = {{ kind = "soft_cross_entropy", temperature = 2.0 }}
            optimizer = {{ kind = "sgd", momentum = 0.9, nesterov = true }}
            schedule = {{ kind = "constant", learning_rate = 0.05 }}
            [[phases]]
            epochs = 1
            batch_size = 64
            loss = {{ kind = "kd", temperature = 2.0, alpha = 0.5 }}
            optimizer = {{ kind = "sgd" }}
            schedule = {{ kind = "constant", learning_rate = 0.01 }}
            [soft_targets]
            views = {VIEWS}
            folder = "{targets}"
            samples_per_shard = 50
            [export]
            onnx = false
            "#,
            data = scene.path("data").display(),
            targets = scene.path("targets").display(),
        );
        fs::write(scene.path("run.toml"), config).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn teacher(&self) -> Teacher {
        self.teacher_with("auto")
    }

    fn teacher_with(&self, precision: &str) -> Teacher {
        let precision = format!("compute.precision={precision}");
        Teacher::start(&TEACHER, &self.path("teacher"), &[&precision])
    }

    fn command(&self, command: &str, settings: &[&str]) -> Command {
        let mut process = Command::new(TRAINER);
        process.arg(command).arg(self.path("run.toml"));
        for setting in settings {
            process.args(["--set", setting]);
        }
        process
    }

    /// Does a run to its end; gives its weights and what it said.
    fn run(&self, name: &str, settings: &[&str]) -> (Vec<u8>, String) {
        let folder = self.path(name);
        let mut command = self.command("run", settings);
        command.arg("--output").arg(&folder);
        let output = finish(command);
        let weights = fs::read(folder.join("artifact/weights.safetensors")).unwrap();
        (weights, output)
    }

    /// Fails to do a run; gives the last line of what it said.
    fn run_fails(&self, name: &str, settings: &[&str]) -> String {
        let mut command = self.command("run", settings);
        command.arg("--output").arg(self.path(name));
        fails(command)
    }

    /// Records to its end; gives what was said.
    fn record(&self, settings: &[&str]) -> String {
        finish(self.command("record", settings))
    }

    /// All files of all recordings but locks.
    fn shards(&self, store: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(&self.path(store), &self.path(store), &mut found);
        found
    }
}

fn finish(command: Command) -> String {
    let mut process = Process::start(command);
    let status = process.wait();
    let output = process.stderr();
    assert!(status.success(), "{output}");
    output
}

fn fails(command: Command) -> String {
    let mut process = Process::start(command);
    let status = process.wait();
    let output = process.stderr();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(!output.contains("panicked"), "{output}");
    output.lines().last().unwrap_or_default().to_owned()
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
            // A temporary file may be gone by now.
            if let Ok(bytes) = fs::read(&path) {
                found.insert(name, bytes);
            }
        }
    }
}

fn endpoints(teacher: &Teacher) -> String {
    format!("teacher={{ endpoints = [\"{}\"] }}", teacher.grpc)
}

fn encoded(teacher: &Teacher, encoding: &str) -> String {
    let address = teacher.grpc;
    format!("teacher={{ endpoints = [\"{address}\"], encoding = \"{encoding}\" }}")
}

#[test]
fn live_record_and_recorded_give_the_same_student_and_other_views_another() {
    let scene = Scene::new();
    // Full precision: the last bits are looked at.
    let teacher = scene.teacher_with("f32");
    for encoding in ["f32", "f16", "top-3"] {
        let from = encoded(&teacher, encoding);
        let targets = scene.path(&format!("targets-{encoding}"));
        let folder = format!("soft_targets.folder={:?}", targets.display().to_string());
        let name = |kind: &str| format!("{kind}-{encoding}");
        let (live, _) = scene.run(&name("live"), &[&from]);
        let record = ["soft_targets.mode=record", &from, &folder];
        let before = teacher.answered();
        let (record, said) = scene.run(&name("record"), &record);
        assert!(record == live, "{encoding}: recording changes the student");
        assert!(said.contains("recorded view 3 of 3"), "{said}");
        let asked = teacher.answered() - before;
        // Each view once: 7 shards of 2 batches of 40 and less, but the last of one batch.
        assert_eq!(asked, (VIEWS * 13) as f64);

        let recorded = ["soft_targets.mode=recorded", &folder];
        let (student, said) = scene.run(&name("recorded"), &recorded);
        assert!(student == live, "{encoding}: replay changes the student");
        assert!(said.contains(&format!("3 views as {encoding}")), "{said}");
        assert_eq!(
            teacher.answered() - before,
            asked,
            "recorded runs ask nobody"
        );
    }
    let live = |encoding: &str| {
        fs::read(scene.path(&format!("live-{encoding}/artifact/weights.safetensors"))).unwrap()
    };
    assert!(live("f32") != live("f16") && live("f16") != live("top-3"));
    // Negative controls: the views and what was recorded of them do decide the bits.
    let from = endpoints(&teacher);
    let (other, _) = scene.run("other views", &[&from, "soft_targets.view_seed=2"]);
    assert!(other != live("f32"));
    let (fewer, _) = scene.run("fewer views", &[&from, "soft_targets.views=2"]);
    assert!(fewer != live("f32"));
}

#[test]
fn digests_of_live_and_recorded_runs_name_the_same_teacher() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    scene.run("live", &[&from]);
    scene.record(&[&from]);
    drop(teacher);
    scene.run("recorded", &["soft_targets.mode=recorded"]);
    let (live, recorded) = (manifest(&scene, "live"), manifest(&scene, "recorded"));
    assert_eq!(live["teacher"], recorded["teacher"]);
    assert_eq!(live["model_id"], recorded["model_id"]);
    let digest = |manifest: &serde_json::Value, phase: usize| {
        manifest["phases"][phase]["consumed_sha256"].clone()
    };
    for phase in 0..2 {
        assert!(digest(&live, phase).is_string());
        assert_eq!(digest(&live, phase), digest(&recorded, phase));
    }
}

#[test]
fn a_recording_killed_at_random_points_ends_as_one_that_was_not() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    let whole = format!(
        "soft_targets.folder={:?}",
        scene.path("whole").display().to_string()
    );
    let said = scene.record(&[&from, &whole]);
    assert!(
        said.contains("331 images as f32: 40 bytes an image"),
        "{said}"
    );
    let expected = scene.shards("whole");
    let shards = SAMPLES.div_ceil(50) * VIEWS;
    assert_eq!(expected.len(), shards + 1);

    // Killed once so many shards are there: five different numbers, from a fixed seed.
    let mut state = 20_260_101u64;
    let mut points = Vec::new();
    while points.len() < 5 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let point = (state >> 33) as usize % (shards - 4);
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points.sort_unstable();
    let count = |shards: &BTreeMap<PathBuf, Vec<u8>>| {
        let whole = shards
            .keys()
            .filter(|name| name.extension().is_some_and(|end| end == "safetensors"));
        whole.count()
    };
    let mut before = 0;
    for point in points {
        let mut recording = Process::start(scene.command("record", &[&from]));
        eventually(&format!("shard {point}"), || {
            (count(&scene.shards("targets")) >= point).then_some(())
        });
        assert!(recording.is_running(), "{}", recording.stderr());
        recording.signal("KILL");
        recording.wait();
        let left = scene.shards("targets");
        let there = count(&left);
        eprintln!("killed at {point} of {shards} shards; {there} are left");
        assert!(there >= point && there >= before, "{there} of {point}");
        // Whatever is there under its own name is whole and final.
        for (name, bytes) in left {
            if !name.to_string_lossy().contains(".writing-") {
                assert!(expected[&name] == bytes, "{}", name.display());
            }
        }
        before = there;
    }
    scene.record(&[&from]);
    assert!(scene.shards("targets") == expected);
    let batches = teacher.answered();
    scene.record(&[&from]);
    assert_eq!(
        teacher.answered(),
        batches,
        "a whole recording needs nothing"
    );
}

#[test]
fn only_damaged_shards_are_recorded_again() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    scene.record(&[&from]);
    let expected = scene.shards("targets");
    let shard = |end: &str| {
        let found = expected.keys().find(|name| name.ends_with(end)).unwrap();
        scene.path("targets").join(found)
    };
    let flipped = shard("view-0001/shard-00003.safetensors");
    let mut bytes = fs::read(&flipped).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    fs::write(&flipped, bytes).unwrap();
    let truncated = shard("view-0002/shard-00006.safetensors");
    fs::write(&truncated, &fs::read(&truncated).unwrap()[..500]).unwrap();
    let foreign = shard("view-0000/shard-00001.safetensors");
    fs::copy(shard("view-0000/shard-00002.safetensors"), foreign).unwrap();

    let said = scene.run_fails("refused", &["soft_targets.mode=recorded"]);
    assert!(said.contains("3 of the shards"), "{said}");
    assert!(said.contains("retort record"), "{said}");

    let before = teacher.answered();
    let said = scene.record(&[&from]);
    for part in [
        "view-0001/shard-00003.safetensors is damaged: its SHA-256",
        "view-0002/shard-00006.safetensors is 500 bytes long instead of",
        "view-0000/shard-00001.safetensors is a shard of another place, view 0, shard 2",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    // Two shards of two batches, and the last one of one.
    assert_eq!(teacher.answered() - before, 5.0);
    assert!(scene.shards("targets") == expected);
    scene.run("recorded", &["soft_targets.mode=recorded"]);
}

#[test]
fn recordings_of_something_else_are_not_used() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let recorded = "soft_targets.mode=recorded";
    let said = scene.run_fails("none", &[recorded]);
    assert!(said.contains("none at all"), "{said}");
    scene.record(&[&endpoints(&teacher)]);
    for (name, setting, part) in [
        ("augmentation", "data.augmentation.pad=1", "pad 2"),
        ("seed", "soft_targets.view_seed=3", "view_seed 1"),
        ("images", "data.train_samples=100", "331 images"),
        (
            "encoding",
            "soft_targets.encoding=f16",
            "encoding f32 instead of f16",
        ),
        ("who", "soft_targets.teacher=zz", "instead of zz"),
    ] {
        let said = scene.run_fails(name, &[recorded, setting]);
        assert!(
            said.contains("no recording in") && said.contains(part),
            "{said}"
        );
    }
    // Fewer views than are recorded are enough; more are not.
    scene.run("fewer", &[recorded, "soft_targets.views=2"]);
    let said = scene.run_fails("more", &[recorded, "soft_targets.views=4"]);
    assert!(
        said.contains("view-0003") && said.contains("not recorded"),
        "{said}"
    );
}

#[test]
fn what_the_disk_would_not_hold_is_refused_before_anything_is_recorded() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    // 331 images of 40 bytes in 10^9 views: 13 TB and more.
    let from = endpoints(&teacher);
    let config = fs::read_to_string(scene.path("run.toml")).unwrap();
    let config = config.replacen("epochs = 5", "epochs = 1000000000", 1);
    fs::write(scene.path("run.toml"), config).unwrap();
    for (command, mode) in [("record", "live"), ("run", "record")] {
        let mode = format!("soft_targets.mode={mode}");
        let said = fails(scene.command(command, &["soft_targets.views=1000000000", &from, &mode]));
        assert!(said.contains("TB would be written"), "{said}");
    }
    assert_eq!(teacher.answered(), 0.0);
}

#[test]
fn what_is_missing_to_record_is_named() {
    let scene = Scene::new();
    let mut process = Process::start(scene.command("record", &[]));
    assert_eq!(process.wait().code(), Some(64));
    assert!(
        process.stderr().contains("teacher = (none): is missing"),
        "{}",
        process.stderr()
    );
    let recorded = "soft_targets.mode=recorded";
    let said = fails(scene.command("record", &[recorded]));
    assert!(said.contains("[teacher] is missing"), "{said}");
    for (teacher, setting, part) in [
        (
            "",
            "soft_targets.encoding=f16",
            "soft_targets.encoding must be",
        ),
        (", numerics = \"any\"", "seed=1", "teacher.numerics must be"),
    ] {
        let teacher = format!("teacher={{ endpoints = [\"127.0.0.1:1\"]{teacher} }}");
        let said = fails(scene.command("record", &[&teacher, setting]));
        assert!(said.contains(part), "{said}");
    }
    let nobody = format!(
        "teacher={{ endpoints = [\"{}\"], wait_timeout_seconds = 1 }}",
        unused_address()
    );
    let said = fails(scene.command("record", &[&nobody]));
    assert!(said.contains("no teacher for 1 s"), "{said}");
}

/// Starts a run, waits until its first epoch is over, and takes its only teacher away.
fn lose_the_teacher(scene: &Scene, name: &str, settings: &[&str]) -> Process {
    let teacher = scene.teacher();
    let from = format!(
        "teacher={{ endpoints = [\"{}\"], wait_timeout_seconds = 1, when_gone = \"{}\" }}",
        teacher.grpc, settings[0]
    );
    let mut command = scene.command("run", &[&from]);
    for setting in &settings[1..] {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(scene.path(name));
    let run = Process::start(command);
    eventually("the end of an epoch", || {
        let metrics =
            fs::read_to_string(scene.path(name).join("metrics.jsonl")).unwrap_or_default();
        metrics.contains("epoch_finished").then_some(())
    });
    teacher.process.signal("KILL");
    run
}

fn manifest(scene: &Scene, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(scene.path(name).join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn without_teachers_a_run_goes_on_from_recorded_targets_with_the_same_bits() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    let (expected, _) = scene.run("undisturbed", &[&from]);
    let needs_recording = format!(
        "teacher={{ endpoints = [\"{}\"], when_gone = \"recorded_targets\" }}",
        teacher.grpc
    );
    let said = scene.run_fails("no recording", &[&needs_recording]);
    assert!(said.contains("none at all"), "{said}");
    scene.record(&[&from]);
    drop(teacher);

    let mut run = lose_the_teacher(&scene, "disturbed", &["recorded_targets"]);
    assert!(run.wait().success(), "{}", run.stderr());
    let said = run.stderr();
    assert!(
        said.contains("going on from recorded soft targets"),
        "{said}"
    );
    let student = fs::read(scene.path("disturbed/artifact/weights.safetensors")).unwrap();
    assert!(student == expected, "other bits");
    let (disturbed, undisturbed) = (
        manifest(&scene, "disturbed"),
        manifest(&scene, "undisturbed"),
    );
    for phase in 0..2 {
        let digest =
            |manifest: &serde_json::Value| manifest["phases"][phase]["consumed_sha256"].clone();
        assert_eq!(digest(&disturbed), digest(&undisturbed));
    }
    assert_eq!(disturbed["bit_reproducible"], true);

    // Nobody there from the start.
    let nobody = format!(
        "teacher={{ endpoints = [\"{}\"], wait_timeout_seconds = 1, when_gone = \"recorded_targets\" }}",
        unused_address()
    );
    let (student, _) = scene.run("alone", &[&nobody]);
    assert!(student == expected, "other bits");
}

#[test]
fn without_teachers_a_run_goes_on_with_hard_labels_and_says_so() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let mut run = lose_the_teacher(&scene, "changed", &["hard_labels"]);
    assert!(run.wait().success(), "{}", run.stderr());
    let said = run.stderr();
    assert!(said.contains("going on with hard labels alone"), "{said}");
    let manifest = manifest(&scene, "changed");
    let batches = manifest["hard_label_batches"].as_u64().unwrap();
    // 9 batches an epoch and 6 of the second phase; the first epoch had its teacher.
    assert!((6..=4 * 9 + 6).contains(&batches), "{batches}");
    assert!(
        said.contains(&format!(
            "{batches} batches were trained on hard labels alone"
        )),
        "{said}"
    );
    assert_eq!(manifest["bit_reproducible"], false);
    let mut run = lose_the_teacher(&scene, "failed", &["fail"]);
    assert_eq!(run.wait().code(), Some(1));
    assert!(
        run.stderr().contains("no teacher for 1 s"),
        "{}",
        run.stderr()
    );
}
