//! A run with two teachers that resumes with another model in the place of one.

use super::kills::until_hit;
use super::scene::{Place, Scene, stderr};

#[test]
fn a_resumed_run_refuses_another_model_in_the_place_of_one_teacher_by_its_name() {
    let scene = Scene::with_two_teachers();
    let (big, wide) = (scene.teacher(), scene.wide_teacher());
    let foreign = scene.foreign_teacher();
    let settings = Scene::both_teachers(&big, &wide);
    let settings = settings.each_ref().map(String::as_str);
    let with_foreign = Scene::both_teachers(&big, &foreign);
    let with_foreign = with_foreign.each_ref().map(String::as_str);
    let undisturbed = scene.finish("undisturbed", &[], &settings);
    until_hit("stopped", |name| {
        let mut process = scene.start_with(name, &settings);
        scene.wait_for(name, Place { phase: 1, step: 1 }, &mut process);
        process.signal("TERM");
        assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
        if !scene.ended_within(name, 1) {
            return false;
        }
        let refused = scene.command(name, &[], &with_foreign).output().unwrap();
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        let last = said.lines().last().unwrap_or_default();
        let place = format!("{} is refused: it is model ", foreign.grpc);
        for part in [
            "teacher wide: no teacher can be used",
            place.as_str(),
            "of the teacher before the interruption",
            "to resume from",
        ] {
            assert!(last.contains(part), "{part} is not in: {said}");
        }
        assert_eq!(foreign.answered(), 0.0);
        // Exchanged, each is another model than before.
        let exchanged = Scene::both_teachers(&wide, &big);
        let exchanged = exchanged.each_ref().map(String::as_str);
        let refused = scene.command(name, &[], &exchanged).output().unwrap();
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("teacher big: no teacher can be used"),
            "{said}"
        );
        assert_eq!(scene.finish(name, &[], &settings), undisturbed);
        true
    });
}
