//! Recordings in a bucket of a real object store.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use test_support::{Bucket, Process, RequestRelay, StopAt, eventually};

use super::scene::{SAMPLES, SLOW_NETWORK, Scene, VIEWS, endpoints, fails, finish};

const RECORDED: &str = "soft_targets.mode=recorded";

const SHARDS: usize = VIEWS * SAMPLES.div_ceil(50);

/// A command of a process that uses recordings in `bucket` and has its copies in the folder `copies`.
fn command(scene: &Scene, bucket: &Bucket, name: &str, copies: &str, settings: &[&str]) -> Command {
    let folder = format!("soft_targets.folder={}", bucket.url("team/targets"));
    let cache = format!("soft_targets.cache={}", scene.path(copies).display());
    let mut command = scene.command(name, &[settings, &[&*folder, &*cache]].concat());
    command.envs(bucket.environment());
    command
}

/// The model and the weights of a run that ends well, and its standard error.
fn student(scene: &Scene, name: &str, mut command: Command) -> ([Vec<u8>; 2], String) {
    let folder = scene.path(name);
    command.args(["--set", "export.onnx=true", "--output"]);
    command.arg(&folder);
    let said = finish(command);
    let files = ["model.onnx", "weights.safetensors"];
    let files = files.map(|file| fs::read(folder.join("artifact").join(file)).unwrap());
    (files, said)
}

/// The copies of a process, by their names below the bucket's prefix.
fn copies(scene: &Scene, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = scene.shards(name).into_iter();
    let below = |path: &Path| -> PathBuf { path.components().skip(1).collect() };
    files.map(|(path, bytes)| (below(&path), bytes)).collect()
}

fn shards(files: &BTreeMap<PathBuf, Vec<u8>>) -> usize {
    let is_shard = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("shard-")
    };
    files.keys().filter(is_shard).count()
}

/// The numbers of shards that a process says it recorded, and that were there.
fn summary(said: &str) -> [usize; 2] {
    let line = said.lines().find(|line| line.starts_with("recorded "));
    let line = line.unwrap_or_else(|| panic!("no summary: {said}"));
    let numbers = line.split(' ').filter_map(|word| word.parse().ok());
    let numbers: Vec<usize> = numbers.collect();
    numbers.try_into().unwrap()
}

#[test]
fn workers_of_which_one_is_killed_and_one_doubled_record_what_one_records_in_a_folder() {
    const WORKERS: usize = 2;
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    scene.record(&[&from]);
    let expected = scene.shards("targets");
    assert_eq!(shards(&expected), SHARDS);
    let share = |index: usize| (0..SHARDS).filter(|n| n % WORKERS == index).count();

    let bucket = Bucket::start();
    let worker = |index: usize, copies: &str| {
        let mut command = command(&scene, &bucket, "record", copies, &[&from]);
        command.args(["--index", &index.to_string(), "--of", "2"]);
        command
    };
    let mut killed = Process::start(worker(0, "killed"));
    let mut doubled = Process::start(worker(1, "doubled"));
    let mut twin = Process::start(worker(1, "twin"));
    eventually("a shard of the first worker", || {
        (shards(&copies(&scene, "killed")) > 0).then_some(())
    });
    assert!(killed.is_running(), "{}", killed.stderr());
    killed.signal("KILL");
    killed.wait();
    let left = shards(&copies(&scene, "killed"));
    eprintln!("the first worker is killed after {left} shards");
    assert!(left < share(0), "it was killed too late");
    // It starts again on a machine without its copies.
    let mut again = Process::start(worker(0, "again"));
    for process in [&mut again, &mut doubled, &mut twin] {
        assert!(process.wait().success(), "{}", process.stderr());
    }
    let [recorded, skipped] = summary(&again.stderr());
    assert_eq!(recorded + skipped, share(0));
    assert!(skipped >= left, "{}", again.stderr());
    // Each shard counts for one of the two that had the same share.
    let [doubled, twin] = [&doubled, &twin].map(|process| summary(&process.stderr())[0]);
    assert_eq!(doubled + twin, share(1));

    // A complete share asks no teacher, and downloads no shard.
    let batches = teacher.answered();
    let said = finish(worker(0, "late"));
    assert_eq!(summary(&said), [0, share(0)]);
    assert!(
        said.contains("s3://") && said.contains("is complete"),
        "{said}"
    );
    assert_eq!(teacher.answered(), batches);
    assert_eq!(shards(&copies(&scene, "late")), 0);

    // A student of the bucket's recording is that of the folder's, and its copies have the bytes of the folder.
    drop(teacher);
    let in_folder = scene.command("run", &[RECORDED]);
    let (from_folder, _) = student(&scene, "from folder", in_folder);
    let run = |copies: &str, settings: &[&str]| {
        command(
            &scene,
            &bucket,
            "run",
            copies,
            &[&[RECORDED][..], settings].concat(),
        )
    };
    let (from_bucket, said) = student(&scene, "from bucket", run("student", &[]));
    assert!(from_bucket == from_folder, "another student");
    assert!(said.contains("the recording s3://"), "{said}");
    assert!(
        copies(&scene, "student") == expected,
        "other files or bytes"
    );
    // Negative control: other views give another student.
    let fewer = run("student", &["soft_targets.views=2"]);
    let (other, _) = student(&scene, "fewer views", fewer);
    assert!(other[0] != from_folder[0]);

    // The same student with a limit of the copies that is smaller than the recording.
    let largest = expected.values().map(Vec::len).max().unwrap();
    let limit = format!("soft_targets.max_cache_bytes={}", 4 * largest);
    let small = run("student", &[&limit]);
    fs::remove_dir_all(scene.path("student")).unwrap();
    let (from_bucket, _) = student(&scene, "small cache", small);
    assert!(from_bucket == from_folder, "another student");
    let left = copies(&scene, "student");
    assert!((1..5).contains(&shards(&left)), "{:?}", left.keys());
}

#[test]
fn a_bucket_that_does_not_answer_is_named_and_copies_are_enough() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    let bucket = Bucket::start();
    let patience = "soft_targets.patience_seconds=60";
    finish(command(
        &scene,
        &bucket,
        "record",
        "copies",
        &[&from, patience],
    ));
    let run = |copies: &str, name: &str, patience: &str| {
        let mut run = command(&scene, &bucket, "run", copies, &[RECORDED, patience]);
        run.arg("--output").arg(scene.path(name));
        run
    };
    finish(run("copies", "before", patience));

    bucket.stall();
    let patience = "soft_targets.patience_seconds=1";
    let said = finish(run("copies", "during", patience));
    assert!(said.contains("only recordings with copies"), "{said}");
    let weights = |name: &str| {
        let file = scene.path(name).join("artifact/weights.safetensors");
        fs::read(file).unwrap()
    };
    assert!(weights("during") == weights("before"), "another student");
    let url = bucket.url("team/targets");
    let said = fails(run("none", "refused", patience));
    assert!(said.contains(&url) && said.contains("no answer"), "{said}");
    let said = fails(command(
        &scene,
        &bucket,
        "record",
        "none",
        &[&from, patience],
    ));
    let how = "run the same command again to record the missing shards";
    assert!(said.contains(&url) && said.contains(how), "{said}");

    bucket.restore();
    let patience = "soft_targets.patience_seconds=60";
    finish(run("none", "after", patience));
    assert!(weights("after") == weights("before"), "another student");
}

#[test]
fn a_signal_ends_the_first_download_of_shards_and_the_same_run_continues_it() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let from = endpoints(&teacher);
    let bucket = Bucket::start();
    finish(command(&scene, &bucket, "record", "copies", &[&from]));
    drop(teacher);

    let relay = RequestRelay::to(bucket.address);
    // Without the signal, the run would wait for longer than this test.
    let settings = [RECORDED, "soft_targets.patience_seconds=3600"];
    let run = || {
        let mut run = command(&scene, &bucket, "run", "student", &settings);
        run.envs(Bucket::environment_at(relay.address));
        run.arg("--output").arg(scene.path("run"));
        run
    };
    // After the list of recordings, the description and some shards.
    relay.stop_at(6, StopAt::Reply);
    let mut stopped = Process::start(run());
    eventually("a request without an answer", || {
        assert!(stopped.is_running(), "{}", stopped.stderr());
        relay.is_stopped().then_some(())
    });
    stopped.signal("TERM");
    let status = stopped.wait();
    let said = stopped.stderr();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("stopped; "), "{said}");
    let left = shards(&copies(&scene, "student"));
    assert!((1..SHARDS).contains(&left), "{left} shards: {said}");

    relay.resume();
    finish(run());
    assert_eq!(shards(&copies(&scene, "student")), SHARDS);
}
