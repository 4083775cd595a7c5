//! Runs that lose their teachers go on from recordings, or with hard labels alone.

use std::fs;

use crate::{
    scene::{SLOW_NETWORK, Scene, endpoints, manifest},
    support::{Process, eventually, unused_address},
};

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
        run.stderr().contains("no answer for 1 s"),
        "{}",
        run.stderr()
    );
}
