//! Recording, replay and repair.

use std::{collections::BTreeMap, fs, path::PathBuf};
use test_support::{Process, eventually, eventually_constant, unused_address};

use super::scene::{
    SAMPLES, SLOW_NETWORK, Scene, VIEWS, encoded, endpoints, fails, files, manifest,
};
use crate::small_disk::SmallDisk;

#[test]
fn live_record_and_recorded_give_the_same_student_and_other_views_another() {
    let scene = Scene::new();
    // Full precision, because the test compares all bits.
    let teacher = scene.teacher_with("f32");
    // The losses have the temperature 2.
    for encoding in ["f32", "f16", "top-3", "sampled-6-t2"] {
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
        // Each view once: 6 shards of two batches, of at most 40 images, and a last shard of one.
        assert_eq!(asked, (VIEWS * 13) as f64);

        let recorded = ["soft_targets.mode=recorded", &folder];
        let (student, said) = scene.run(&name("recorded"), &recorded);
        assert!(student == live, "{encoding}: replay changes the student");
        assert!(said.contains(&format!("({encoding}, teacher")), "{said}");
        assert!(said.contains("holds the 3 views needed"), "{said}");
        assert_eq!(
            teacher.answered() - before,
            asked,
            "a run in mode \"recorded\" asked a teacher"
        );
    }
    let live = |encoding: &str| {
        fs::read(scene.path(&format!("live-{encoding}/artifact/weights.safetensors"))).unwrap()
    };
    assert!(live("f32") != live("f16") && live("f16") != live("top-3"));
    assert!(live("f32") != live("sampled-6-t2"));
    // Negative controls: other views and other recordings give other bits.
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

    // Kills the recording after five different numbers of shards, from a fixed seed.
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
        // Every file with its final name is complete.
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
        "a complete recording asked the teacher"
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
    // Two shards of two batches, and the last shard of one batch.
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
        ("mixup", "data.augmentation.mixup={alpha=0.2}", "mixup 0.2"),
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
    // A run may use fewer views than are recorded, but not more.
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
    // 331 images of 40 bytes in 10,000 views take more than 132 MB.
    let from = endpoints(&teacher);
    let config = fs::read_to_string(scene.path("run.toml")).unwrap();
    let config = config.replacen("epochs = 5", "epochs = 10000", 1);
    fs::write(scene.path("run.toml"), config).unwrap();
    let disk = SmallDisk::mount(scene.path("disk"), 100);
    let folder = scene.path("disk/targets").display().to_string();
    let folder = format!("soft_targets.folder={folder:?}");
    let views = "soft_targets.views=10000";
    for (name, mode) in [("record", "live"), ("run", "record")] {
        let mode = format!("soft_targets.mode={mode}");
        let mut command = scene.command(name, &[views, &from, &mode, &folder]);
        if name == "run" {
            command.arg("--output").arg(scene.path(name));
        }
        let said = fails(disk.inside(&command));
        assert!(said.contains("MB would be written"), "{said}");
    }
    assert_eq!(teacher.answered(), 0.0);
}

#[test]
fn a_disk_that_fills_up_stops_a_recording_with_every_shard_before_it_intact() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    scene.record(&[&from]);
    let whole = scene.shards("targets");

    // 2 MiB more than the 64 MiB that a recording leaves free.
    let disk = SmallDisk::mount(scene.path("disk"), 66);
    let folder = scene.path("disk/targets").display().to_string();
    let folder = format!("soft_targets.folder={folder:?}");
    let start = || Process::start(disk.inside(&scene.command("record", &[&from, &folder])));
    let mut recording = start();
    eventually("a shard", || {
        (files(&disk.path("targets")).len() > 1).then_some(())
    });
    disk.fill_beside(&mut recording);
    assert_eq!(recording.wait().code(), Some(1), "{}", recording.stderr());
    let said = recording.stderr();
    assert!(said.contains("No space left on device"), "{said}");
    let written = files(&disk.path("targets"));
    assert!((2..whole.len()).contains(&written.len()), "{written:?}");
    for (file, bytes) in &written {
        assert!(Some(bytes) == whole.get(file), "{} differs", file.display());
    }

    // The disk is still full: the next attempt fails before it asks a teacher, which may still compute an
    // earlier batch.
    eventually_constant("the teacher's last batch", || teacher.answered());
    let before = teacher.answered();
    let mut again = start();
    assert_eq!(again.wait().code(), Some(1), "{}", again.stderr());
    assert!(
        again.stderr().contains("free some space"),
        "{}",
        again.stderr()
    );
    assert_eq!(teacher.answered(), before);

    fs::remove_file(disk.path("filler")).unwrap();
    let mut recording = start();
    assert!(recording.wait().success(), "{}", recording.stderr());
    assert!(files(&disk.path("targets")) == whole, "the shards differ");
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
        "teacher={{ endpoints = [\"{}\"], wait_timeout_seconds = 3 }}",
        unused_address()
    );
    let said = fails(scene.command("record", &[&nobody]));
    assert!(said.contains("no teacher for 3 s"), "{said}");
    assert!(said.contains("record the missing shards"), "{said}");
}

#[test]
fn a_stopped_recording_says_how_to_continue() {
    let scene = Scene::new();
    let nobody = format!(
        "teacher={{ endpoints = [\"{}\"], wait_timeout_seconds = 600 }}",
        unused_address()
    );
    let mut recording = Process::start(scene.command("record", &[&nobody]));
    eventually("a search for teachers", || {
        recording.stderr().contains("is unavailable").then_some(())
    });
    recording.signal("HUP");
    assert_eq!(recording.wait().code(), Some(1), "{}", recording.stderr());
    let said = recording.stderr();
    let how = "stopped; run the same command again to record the missing shards";
    assert!(said.contains(how), "{said}");
    assert!(!said.contains("checkpoint"), "{said}");
}
