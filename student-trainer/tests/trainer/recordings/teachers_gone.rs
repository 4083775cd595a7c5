//! Runs that lose their teachers continue from recordings.

use std::{fmt::Display, fs};

use test_support::{Process, eventually, unused_address};

use super::scene::{SLOW_NETWORK, Scene, endpoints, manifest};

/// Starts a run, waits until `epochs` epochs are finished, and kills its only teacher.
fn lose_the_teacher(scene: &Scene, name: &str, fallback: &str, epochs: usize) -> Process {
    let teacher = scene.teacher_with("f32");
    let mut command = scene.command("run", &[&from(teacher.grpc), fallback]);
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

const NO_FALLBACK: &str = "soft_targets.fallback=none";
const RECORDED: &str = "soft_targets.fallback=recorded";

fn from(teacher: impl Display) -> String {
    format!("teacher={{ endpoints = [\"{teacher}\"], wait_timeout_seconds = 3 }}")
}

#[test]
fn without_teachers_a_run_continues_with_recorded_targets_and_the_same_bits() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher_with("f32");
    let (expected, _) = scene.run("undisturbed", &[&endpoints(&teacher)]);
    let said = scene.run_fails("no recording", &[&from(teacher.grpc), RECORDED]);
    assert!(said.contains("none at all"), "{said}");
    scene.record(&[&endpoints(&teacher)]);
    drop(teacher);

    let mut run = lose_the_teacher(&scene, "disturbed", RECORDED, 1);
    assert!(run.wait().success(), "{}", run.stderr());
    let said = run.stderr();
    assert!(
        said.contains("continuing with recorded soft targets"),
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

    // Without a teacher from the start.
    let no_teacher = from(unused_address());
    let (student, _) = scene.run("alone", &[&no_teacher, RECORDED]);
    assert!(student == expected, "other bits");
}

/// The epochs use the views 0, 1, 2, 0, 1 and, in the second phase, 0.
#[test]
fn a_recording_takes_over_where_it_covers_the_rest_of_the_run() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher_with("f32");
    let (expected, _) = scene.run("undisturbed", &[&endpoints(&teacher)]);
    scene.record(&[&endpoints(&teacher)]);
    drop(teacher);
    remove_view(&scene, 2);
    let no_teacher = from(unused_address());
    let student = |name: &str| fs::read(scene.path(name).join("artifact/weights.safetensors"));

    // After three epochs, view 2 is not needed: neither by a run that then loses its teacher...
    let mut run = lose_the_teacher(&scene, "covered", RECORDED, 3);
    let (status, said) = (run.wait(), run.stderr());
    assert!(status.success(), "{said}");
    assert!(
        said.contains("continues as far as the recording reaches"),
        "{said}"
    );
    assert!(
        said.contains("continuing with recorded soft targets"),
        "{said}"
    );
    assert!(student("covered").unwrap() == expected, "other bits");
    // ...nor by a run that is then resumed without a teacher.
    let mut run = lose_the_teacher(&scene, "resumed", NO_FALLBACK, 3);
    let (status, said) = (run.wait(), run.stderr());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("no answer for 3 s"), "{said}");
    let (resumed, said) = scene.run("resumed", &[&no_teacher, RECORDED]);
    assert!(said.contains("resumes from step"), "{said}");
    assert!(resumed == expected, "other bits");

    // After one epoch, view 2 is needed: the run uses view 1 and ends at view 2.
    let (uncovered, said) = (0..10)
        .find_map(|round| {
            let name = format!("uncovered-{round}");
            let mut run = lose_the_teacher(&scene, &name, RECORDED, 1);
            let status = run.wait();
            // A fast teacher that is killed late may have answered the batches of view 2 too.
            (!status.success()).then(|| (name, run.stderr()))
        })
        .expect("a run that loses its teacher in time");
    let error = said.lines().last().unwrap();
    for part in ["the teachers are gone", "view-0002", "the same run again"] {
        assert!(error.contains(part), "{part} is not in: {said}");
    }
    // A run that starts without teachers also reports what is missing.
    let error = scene.run_fails(&uncovered, &[&no_teacher, RECORDED]);
    for part in ["no teacher for 3 s", "view-0002", "the same run again"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    scene.record(&[&endpoints(&scene.teacher_with("f32"))]);
    let (resumed, said) = scene.run(&uncovered, &[&no_teacher, RECORDED]);
    assert!(said.contains("resumes from step"), "{said}");
    assert!(resumed == expected, "other bits");
}

fn remove_view(scene: &Scene, view: u32) {
    let recordings = fs::read_dir(scene.path("targets")).unwrap();
    let [recording] = recordings.collect::<Vec<_>>().try_into().unwrap();
    let folder = recording.unwrap().path().join(format!("view-{view:04}"));
    fs::remove_dir_all(folder).unwrap();
}
