//! Teachers whose class names differ from those of the data, in order or in name.

use std::fs;
use test_support::class_names;

use super::scene::{Scene, encoded, endpoints};

/// Returns `key=["…", …]` with these names.
fn setting(key: &str, names: &[String]) -> String {
    format!("{key}={names:?}")
}

/// Changes the class names of the scene's teacher.
fn rename(scene: &Scene, names: &[String]) {
    let file = scene.path("teacher/model.toml");
    let text = fs::read_to_string(&file).unwrap();
    let mut model: toml::Table = text.parse().unwrap();
    model.insert("class_names".to_owned(), names.to_vec().into());
    fs::write(file, model.to_string()).unwrap();
}

#[test]
fn logits_of_another_order_are_brought_into_that_of_the_data_live_recorded_and_replayed() {
    let scene = Scene::new();
    let names = class_names(10);
    let reversed: Vec<String> = names.iter().rev().cloned().collect();
    rename(&scene, &reversed);
    let teacher = scene.teacher_with("f32");
    let notice = "has the classes of the data in another order";
    for encoding in ["f32", "top-3"] {
        let from = encoded(&teacher, encoding);
        let folder = scene.path(&format!("targets-{encoding}"));
        let folder = format!("soft_targets.folder={:?}", folder.display().to_string());
        let name = |kind: &str| format!("{kind}-{encoding}");
        let (live, said) = scene.run(&name("live"), &[&from]);
        assert!(said.contains(notice), "{said}");
        let record = ["soft_targets.mode=record", &from, &folder];
        let (record, said) = scene.run(&name("record"), &record);
        assert!(record == live && said.contains(notice), "{said}");
        let recorded = ["soft_targets.mode=recorded", &folder];
        let (recorded, said) = scene.run(&name("recorded"), &recorded);
        assert!(recorded == live && said.contains(notice), "{said}");

        // Without the names, classes match by position, which is another teacher and gives other bits.
        let ignore = "soft_targets.class_names=ignore";
        let (ignored, said) = scene.run(&name("ignored"), &[&from, ignore]);
        assert!(ignored != live && !said.contains(notice), "{said}");
        // Data in the teacher's order need no reordering.
        let data = setting("data.class_names", &reversed);
        let (as_teacher, said) = scene.run(&name("as-teacher"), &[&from, &data]);
        assert!(as_teacher == ignored && !said.contains(notice), "{said}");
        let data = ["soft_targets.mode=recorded", &folder, &data];
        let (replayed, said) = scene.run(&name("replayed"), &data);
        assert!(replayed == ignored && !said.contains(notice), "{said}");
    }
}

#[test]
fn other_classes_end_a_run_before_its_first_step_and_both_are_listed() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    scene.record(&[&from]);
    let mut names = class_names(10);
    names[3] = "Frock".to_owned();
    let data = setting("data.class_names", &names);
    let answered = teacher.answered();
    for (name, settings) in [
        ("live", [&*from, "soft_targets.mode=live"]),
        ("record", [&*from, "soft_targets.mode=record"]),
        ("recorded", ["soft_targets.mode=recorded", "seed=1"]),
    ] {
        let error = scene.run_fails(name, &[settings[0], settings[1], &data]);
        for part in [
            "only the teacher has \"Dress\"",
            "only the data has \"Frock\"",
            "soft_targets.class_names = \"ignore\"",
        ] {
            assert!(error.contains(part), "{name}: {part} is not in: {error}");
        }
    }
    assert_eq!(teacher.answered(), answered);
    let ignore = "soft_targets.class_names=ignore";
    scene.run("ignored", &["soft_targets.mode=recorded", &data, ignore]);
}

#[test]
fn a_teacher_that_was_renamed_does_not_add_to_its_recording() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    scene.record(&[&endpoints(&teacher)]);
    drop(teacher);
    let reversed: Vec<String> = class_names(10).into_iter().rev().collect();
    rename(&scene, &reversed);
    let teacher = scene.teacher();
    let error = scene.run_fails("run", &[&endpoints(&teacher), "soft_targets.mode=record"]);
    assert!(
        error.contains("class names are not those that it had"),
        "{error}"
    );
}

#[test]
fn a_recording_without_names_is_compared_by_their_number_and_says_so() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    scene.record(&[&endpoints(&teacher)]);
    let (live, _) = scene.run("live", &[&endpoints(&teacher)]);
    let [folder] = &fs::read_dir(scene.path("targets"))
        .unwrap()
        .collect::<Vec<_>>()[..]
    else {
        panic!("one recording");
    };
    let file = folder.as_ref().unwrap().path().join("recording.json");
    let mut description: serde_json::Value =
        serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for key in ["class_names", "class_names_sha256"] {
        description.as_object_mut().unwrap().remove(key).unwrap();
    }
    fs::write(&file, description.to_string()).unwrap();
    let (replayed, said) = scene.run("replayed", &["soft_targets.mode=recorded"]);
    assert!(
        said.contains("only the number of classes was compared"),
        "{said}"
    );
    assert!(replayed == live);
}
