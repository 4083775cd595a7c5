//! Several workers that record together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use test_support::{Process, built_beside, eventually};

use super::scene::{SAMPLES, SLOW_NETWORK, Scene, TRAINER, VIEWS, endpoints, finish};

const SHARDS_PER_VIEW: usize = SAMPLES.div_ceil(50);

/// As many views as the run has epochs, so that every worker has several shards.
const FIVE_VIEWS: &str = "soft_targets.views=5";

const INDEX: &str = "JOB_COMPLETION_INDEX";

/// Numbers of the shards among `files`, which are those of one recording.
fn numbers(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeSet<usize> {
    let number = |path: &PathBuf| {
        let shard = path.file_name()?.to_str()?.strip_prefix("shard-")?;
        let shard: usize = shard.strip_suffix(".safetensors")?.parse().ok()?;
        let view = path.parent()?.file_name()?.to_str()?;
        let view: usize = view.strip_prefix("view-")?.parse().ok()?;
        Some(view * SHARDS_PER_VIEW + shard)
    };
    files.keys().filter_map(number).collect()
}

/// A command that records the share of worker `index` of `of`.
fn worker(scene: &Scene, index: usize, of: usize, settings: &[&str]) -> Command {
    let mut command = scene.command("record", settings);
    command.args(["--index", &index.to_string(), "--of", &of.to_string()]);
    command
}

fn folder(scene: &Scene, name: &str) -> String {
    let path = scene.path(name).display().to_string();
    format!("soft_targets.folder={path:?}")
}

/// The shards that a process says it recorded.
fn recorded(said: &str) -> usize {
    let line = said.lines().find_map(|line| line.strip_prefix("recorded "));
    let line = line.unwrap_or_else(|| panic!("no summary: {said}"));
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn workers_of_which_two_are_killed_and_one_is_doubled_record_what_one_records() {
    const WORKERS: usize = 4;
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    scene.record(&[&from, FIVE_VIEWS, &folder(&scene, "whole")]);
    let expected = scene.shards("whole");
    let share = |index: usize| -> BTreeSet<usize> {
        let all = 0..5 * SHARDS_PER_VIEW;
        all.filter(|number| number % WORKERS == index).collect()
    };
    let all: BTreeSet<_> = (0..WORKERS).flat_map(share).collect();
    assert_eq!(numbers(&expected), all);

    let command = |index| worker(&scene, index, WORKERS, &[&from, FIVE_VIEWS]);
    let mut workers: Vec<_> = (0..WORKERS)
        .map(|index| Process::start(command(index)))
        .collect();
    let mut twin = Process::start(command(3));
    let recorded_by = |index: usize| &numbers(&scene.shards("targets")) & &share(index);
    for index in [1, 2] {
        let killed = &mut workers[index];
        eventually(&format!("a shard of worker {index}"), || {
            (!recorded_by(index).is_empty()).then_some(())
        });
        assert!(killed.is_running(), "{}", killed.stderr());
        killed.signal("KILL");
        killed.wait();
        let left = recorded_by(index);
        eprintln!("worker {index} is killed after the shards {left:?}");
        assert!(left.len() < share(index).len(), "it was killed too late");
    }
    // As if a worker had been killed while it wrote a shard.
    let description = expected
        .keys()
        .find(|file| file.ends_with("recording.json"));
    let recording = description.unwrap().parent().unwrap();
    let recording = scene.path("targets").join(recording);
    fs::write(recording.join("view-0000/.writing-killed"), "half a shard").unwrap();
    workers[1] = Process::start(command(1));
    let mut by_variable = scene.command("record", &[&from, FIVE_VIEWS]);
    by_variable.args(["--of", "4"]).env(INDEX, "2");
    workers[2] = Process::start(by_variable);
    for process in workers.iter_mut().chain([&mut twin]) {
        assert!(process.wait().success(), "{}", process.stderr());
    }

    // Equal names and bytes of all files, so nothing unfinished is left.
    let found = scene.shards("targets");
    assert_eq!(numbers(&found), all);
    assert!(found == expected, "other files or bytes");
    // Each shard counts for one of the two that had the same share.
    let [doubled, twin] = [&workers[3], &twin].map(|process| recorded(&process.stderr()));
    assert_eq!(doubled + twin, share(3).len());
    // A complete share asks no teacher.
    let batches = teacher.answered();
    let said = finish(command(1));
    for part in [
        "recorded 0 shards, skipped 9 that were there",
        "is complete",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert_eq!(teacher.answered(), batches);

    // Negative control: other views have other logits.
    let other = [
        &*from,
        "soft_targets.view_seed=2",
        &folder(&scene, "other"),
        "soft_targets.views=1",
    ];
    scene.record(&other);
    let logits = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        let first = Path::new("view-0000/shard-00000.safetensors");
        let (_, bytes) = files
            .iter()
            .find(|(path, _)| path.ends_with(first))
            .unwrap();
        // 50 samples of 10 classes in f32, at the end of the file.
        bytes[bytes.len() - 50 * 10 * 4..].to_vec()
    };
    assert_eq!(logits(&found), logits(&expected));
    assert_ne!(logits(&scene.shards("other")), logits(&expected));
}

#[test]
fn a_run_is_refused_until_the_shares_of_all_workers_are_there() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    let said = finish(worker(&scene, 1, 3, &[&from]));
    for part in [
        "worker 1 of 3 records 7 of the 21 shards",
        "recorded 7 shards, skipped 0 that were there",
        "lacks 14 shards of other workers",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let share = (0..VIEWS * SHARDS_PER_VIEW).filter(|number| number % 3 == 1);
    let share: BTreeSet<_> = share.collect();
    assert_eq!(numbers(&scene.shards("targets")), share);
    let said = scene.run_fails("refused", &["soft_targets.mode=recorded"]);
    for part in ["14 of the shards", "not recorded", "`retort record`"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }

    // Without --of a process records everything, also in an Indexed Job.
    let mut rest = scene.command("record", &[&from]);
    rest.env(INDEX, "2");
    let said = finish(rest);
    for part in [
        "recorded 14 shards, skipped 7 that were there",
        "is complete",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    scene.run("recorded", &["soft_targets.mode=recorded"]);
}

#[test]
fn a_worker_that_does_not_exist_is_wrong_usage() {
    let scene = Scene::new();
    let retort = built_beside(TRAINER, "retort");
    for (arguments, variable, part) in [
        (
            &["--index", "3", "--of", "3"][..],
            None,
            "there is no worker 3 of 3",
        ),
        (
            &["--of", "3"][..],
            None,
            "--of needs --index, or the variable",
        ),
        (
            &["--of", "3"][..],
            Some("x"),
            "JOB_COMPLETION_INDEX = \"x\"",
        ),
        (&["--of", "3"][..], Some("3"), "there is no worker 3 of 3"),
    ] {
        for program in [Path::new(TRAINER), &retort] {
            let mut command = Command::new(program);
            command.arg("record").arg(scene.path("run.toml"));
            command.args(arguments).env_remove(INDEX);
            if let Some(value) = variable {
                command.env(INDEX, value);
            }
            let mut process = Process::start(command);
            let status = process.wait();
            let said = process.stderr();
            assert_eq!(status.code(), Some(2), "{said}");
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
    for arguments in [&["--index", "1"][..], &["--of", "0"]] {
        let mut command = scene.command("record", &[]);
        command.args(arguments);
        let mut process = Process::start(command);
        assert_eq!(process.wait().code(), Some(2), "{}", process.stderr());
        assert!(process.stderr().contains("--of"), "{}", process.stderr());
    }
}
