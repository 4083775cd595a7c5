//! A run that resumes while a teacher with another model is also configured.

use std::fs;

use student_trainer::run::RunManifest;

use super::kills::until_hit;
use super::scene::{Place, Scene, stderr};

#[test]
fn a_resumed_run_uses_its_own_teacher_and_refuses_one_that_is_listed_before_it() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let undisturbed = scene.finish("undisturbed", &[&teacher], &[]);
    let manifest = fs::read(scene.path("undisturbed/manifest.json")).unwrap();
    let manifest: RunManifest = serde_json::from_slice(&manifest).unwrap();
    let own = format!(
        "but the run uses model {} of the teacher before the interruption",
        manifest.teacher.unwrap().model_id
    );
    let foreign = scene.foreign_teacher();
    let refused = format!("teacher {} is refused: it is model ", foreign.grpc);
    until_hit("stopped", |name| {
        let mut process = scene.start(name, &[&teacher]);
        scene.wait_for(name, Place { phase: 1, step: 1 }, &mut process);
        process.signal("TERM");
        assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
        if !scene.ended_within(name, 1) {
            return false;
        }
        // The run cannot use the other model's teacher.
        let alone = scene.command(name, &[&foreign], &[]).output().unwrap();
        let said = stderr(&alone);
        assert_eq!(alone.status.code(), Some(1), "{said}");
        let last = said.lines().last().unwrap_or_default();
        let place = format!("{} is refused: it is model ", foreign.grpc);
        for part in [
            "no teacher can be used",
            place.as_str(),
            own.as_str(),
            "to resume from",
        ] {
            assert!(last.contains(part), "{part} is not in: {said}");
        }
        let both = [&foreign, &teacher];
        let resumed = scene.command(name, &both, &[]).output().unwrap();
        let said = stderr(&resumed);
        assert!(resumed.status.success(), "{said}");
        let mut lines = said.lines();
        let is_reported = lines.any(|line| line.contains(&refused) && line.contains(&own));
        assert!(is_reported, "{said}");
        assert_eq!(scene.result(name), undisturbed);
        assert_eq!(foreign.answered(), 0.0);
        true
    });
}
