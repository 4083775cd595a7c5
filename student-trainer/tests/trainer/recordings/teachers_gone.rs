//! Runs that lose their teachers go on from recordings, or with hard labels alone.

use std::{fmt::Display, fs, path::Path, process::Command};
use test_support::{Process, built_beside, eventually, unused_address};

use super::scene::{SLOW_NETWORK, Scene, TRAINER, endpoints, manifest};

/// Starts a run, waits until some of its epochs are over, and takes its only teacher away.
fn lose_the_teacher(scene: &Scene, name: &str, when_gone: &str, epochs: usize) -> Process {
    let teacher = scene.teacher_with("f32");
    let mut command = scene.command("run", &[&from(teacher.grpc, when_gone)]);
    command.arg("--output").arg(scene.path(name));
    let run = Process::start(command);
    eventually("the end of the epochs", || {
        let metrics =
            fs::read_to_string(scene.path(name).join("metrics.jsonl")).unwrap_or_default();
        (metrics.matches("epoch_finished").count() >= epochs).then_some(())
    });
    teacher.process.signal("KILL");
    run
}

fn from(teacher: impl Display, when_gone: &str) -> String {
    format!(
        "teacher={{ endpoints = [\"{teacher}\"], wait_timeout_seconds = 3, when_gone = \"{when_gone}\" }}"
    )
}

#[test]
fn without_teachers_a_run_goes_on_from_recorded_targets_with_the_same_bits() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher_with("f32");
    let (expected, _) = scene.run("undisturbed", &[&endpoints(&teacher)]);
    let needs_recording = from(teacher.grpc, "recorded_targets");
    let said = scene.run_fails("no recording", &[&needs_recording]);
    assert!(said.contains("none at all"), "{said}");
    scene.record(&[&endpoints(&teacher)]);
    drop(teacher);

    let mut run = lose_the_teacher(&scene, "disturbed", "recorded_targets", 1);
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
    let nobody = from(unused_address(), "recorded_targets");
    let (student, _) = scene.run("alone", &[&nobody]);
    assert!(student == expected, "other bits");
}

/// Epochs show views 0, 1, 2, 0, 1 and, in the second phase, 0.
#[test]
fn a_recording_takes_over_where_it_covers_the_rest_of_the_run() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher_with("f32");
    let (expected, _) = scene.run("undisturbed", &[&endpoints(&teacher)]);
    scene.record(&[&endpoints(&teacher)]);
    drop(teacher);
    remove_view(&scene, 2);
    let nobody = from(unused_address(), "recorded_targets");
    let student = |name: &str| fs::read(scene.path(name).join("artifact/weights.safetensors"));

    // View 2 is not needed after three epochs: neither by a run that loses its teacher then...
    let mut run = lose_the_teacher(&scene, "covered", "recorded_targets", 3);
    let (status, said) = (run.wait(), run.stderr());
    assert!(status.success(), "{said}");
    assert!(
        said.contains("goes on as far as the recording reaches"),
        "{said}"
    );
    assert!(
        said.contains("going on from recorded soft targets"),
        "{said}"
    );
    assert!(student("covered").unwrap() == expected, "other bits");
    // ...nor by one that is resumed then and finds none.
    let mut run = lose_the_teacher(&scene, "resumed", "fail", 3);
    assert_eq!(run.wait().code(), Some(1), "{}", run.stderr());
    let (resumed, said) = scene.run("resumed", &[&nobody]);
    assert!(said.contains("goes on from step"), "{said}");
    assert!(resumed == expected, "other bits");

    // It is needed after one epoch: the run uses view 1 and ends where it reaches view 2.
    let (uncovered, said) = (0..10)
        .find_map(|round| {
            let name = format!("uncovered-{round}");
            let mut run = lose_the_teacher(&scene, &name, "recorded_targets", 1);
            let status = run.wait();
            // A teacher that was fast, and killed late, had answered for view 2 as well.
            (!status.success()).then(|| (name, run.stderr()))
        })
        .expect("a run that loses its teacher in time");
    let error = said.lines().last().unwrap();
    for part in ["the teachers are gone", "view-0002", "the same run again"] {
        assert!(error.contains(part), "{part} is not in: {said}");
    }
    // At its start as well, a run without teachers says what is missing.
    let error = scene.run_fails(&uncovered, &[&nobody]);
    for part in ["no teacher for 3 s", "view-0002", "the same run again"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    scene.record(&[&endpoints(&scene.teacher_with("f32"))]);
    let (resumed, said) = scene.run(&uncovered, &[&nobody]);
    assert!(said.contains("goes on from step"), "{said}");
    assert!(resumed == expected, "other bits");
}

fn remove_view(scene: &Scene, view: u32) {
    let recordings = fs::read_dir(scene.path("targets")).unwrap();
    let [recording] = recordings.collect::<Vec<_>>().try_into().unwrap();
    let folder = recording.unwrap().path().join(format!("view-{view:04}"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_teachers_a_run_goes_on_with_hard_labels_and_says_so() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let mut run = lose_the_teacher(&scene, "changed", "hard_labels", 1);
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
    let verified = verify(&scene.path("changed"));
    assert!(
        verified.contains("batches with hard labels alone"),
        "{verified}"
    );
}

/// A run that failed for want of a teacher goes on without one, if that is wanted now.
#[test]
fn a_run_that_failed_without_teachers_is_resumed_with_hard_labels() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let mut run = lose_the_teacher(&scene, "failed", "fail", 1);
    assert_eq!(run.wait().code(), Some(1));
    assert!(
        run.stderr().contains("no answer for 3 s"),
        "{}",
        run.stderr()
    );

    let without = |when_gone: &str| {
        let nobody = from(unused_address(), when_gone);
        let mut command = scene.command("run", &[&nobody, "export.onnx=true"]);
        command.arg("--output").arg(scene.path("failed"));
        let mut run = Process::start(command);
        (run.wait(), run.stderr())
    };
    let (status, said) = without("fail");
    assert_eq!(status.code(), Some(1), "{said}");
    let (status, said) = without("hard_labels");
    assert!(status.success(), "{said}");
    assert!(
        said.contains("the rest of the run goes on with hard labels alone"),
        "{said}"
    );
    let manifest = manifest(&scene, "failed");
    assert!(manifest["hard_label_batches"].as_u64().unwrap() > 0);
    assert!(manifest["teacher"]["model_id"].is_string());
    // Whoever is served the model can tell as well.
    let served = fs::read(scene.path("failed/artifact/manifest.json")).unwrap();
    let served: serde_json::Value = serde_json::from_slice(&served).unwrap();
    let provenance = &served["provenance"];
    assert_eq!(provenance["bit_reproducible"], false);
    assert_eq!(
        provenance["hard_label_batches"],
        manifest["hard_label_batches"]
    );
    let verified = verify(&scene.path("failed"));
    assert!(
        verified.contains("batches with hard labels alone"),
        "{verified}"
    );

    // From its beginning, a run wants the teacher that it names.
    let said = scene.run_fails("never had one", &[&from(unused_address(), "hard_labels")]);
    assert!(said.contains("no teacher for 3 s"), "{said}");
}

/// What `retort run --verify` says of a run that is in order.
fn verify(folder: &Path) -> String {
    let mut retort = Command::new(built_beside(TRAINER, "retort"));
    let verified = retort.args(["run", "--verify"]).arg(folder).output();
    let verified = verified.unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    String::from_utf8(verified.stdout).unwrap()
}
