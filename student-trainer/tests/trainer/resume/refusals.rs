//! Checkpoints from which a run does not resume, and its messages.

use std::fs;

use student_trainer::run::RunManifest;

use super::scene::{PHASES, Place, Scene, checkpoints, stderr};

/// Starts a run and stops it in its first phase.
fn stopped(scene: &Scene, name: &str) {
    let mut process = scene.start(name, &[]);
    // Late enough for two checkpoints.
    let aim = Place { phase: 0, step: 15 };
    scene.wait_for(name, aim, &mut process);
    process.signal("TERM");
    assert!(process.wait().success(), "{}", process.stderr());
}

#[test]
fn another_configuration_is_refused_by_its_key_and_other_threads_unless_allowed() {
    let scene = Scene::without_teacher();
    stopped(&scene, "run");
    let before = checkpoints(&scene.path("run"));
    let refused = |settings: &[&str]| {
        let done = scene.command("run", &[], settings).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
        stderr(&done)
    };
    for (setting, parts) in [
        (
            "seed=7",
            ["seed was 1 and is now 7", "another output folder"],
        ),
        (
            "phases[1].batch_size=8",
            ["phases[1].batch_size was 16 and is now 8", "put it back"],
        ),
        ("threads=2", ["threads was 1 and is now 2", "put it back"]),
    ] {
        let said = refused(&[setting]);
        for part in parts {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
    assert_eq!(checkpoints(&scene.path("run")), before);

    let mut command = scene.command("run", &[], &["threads=2"]);
    let done = command.arg("--allow-other-bits").output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let manifest: RunManifest =
        serde_json::from_slice(&fs::read(scene.path("run/manifest.json")).unwrap()).unwrap();
    assert!(!manifest.bit_reproducible);
    assert_eq!(manifest.phases.len(), PHASES.len());
}

#[test]
fn a_damaged_checkpoint_is_reported_and_the_one_before_is_used() {
    let scene = Scene::without_teacher();
    let undisturbed = scene.finish("undisturbed", &[], &[]);
    stopped(&scene, "run");
    let files = checkpoints(&scene.path("run"));
    let [.., before, newest] = &files[..] else {
        panic!("{files:?}");
    };
    let mut bytes = fs::read(newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(newest, bytes).unwrap();
    let done = scene.command("run", &[], &[]).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let step = before.file_stem().unwrap().to_str().unwrap();
    let step = step.trim_start_matches("step-").trim_start_matches('0');
    for part in [
        format!("{}: damaged", newest.display()),
        format!("resumes from step {step} of the run"),
    ] {
        assert!(stderr(&done).contains(&part), "{part}: {}", stderr(&done));
    }
    assert_eq!(scene.result("run"), undisturbed);
}

#[test]
fn two_trainers_do_not_work_in_one_folder() {
    let scene = Scene::without_teacher();
    let mut first = scene.start("run", &[]);
    scene.wait_for("run", Place { phase: 0, step: 1 }, &mut first);
    // Suspended, so that it cannot end before the second run checks the folder.
    first.signal("STOP");
    let second = scene.command("run", &[], &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("another trainer uses"),
        "{}",
        stderr(&second)
    );
}
