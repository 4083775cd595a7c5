//! Runs whose output is in a bucket of a real object store: killed and continued on another machine, refused while another
//! trainer lives, and without their store for a while.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use common::digest::Sha256;
use serde_json::Value;
use test_support::{Bucket, Pace, Process, RequestRelay, eventually};

use super::{
    scene::{Result, Scene, TRAINER, stderr},
    several_workers::{Group, TWO_BATCHES},
};

/// Enough for interruptions after the first checkpoint.
pub const LONG: &str = "phases[0].epochs=20";

/// Longer than the test.
const ENDLESS: &str = "phases[0].epochs=5000";

/// Runs of a scene in a bucket.
pub struct BucketScene {
    pub scene: Scene,
    pub bucket: Bucket,
}

impl BucketScene {
    pub fn new() -> Self {
        Self {
            scene: Scene::without_teacher(),
            bucket: Bucket::start(),
        }
    }

    /// The run called `name` as `machine` does it, whose leases last so many seconds.
    fn command(&self, name: &str, machine: &str, lease: &str, settings: &[&str]) -> Command {
        let mut command = Command::new(TRAINER);
        command.arg("run").arg(self.scene.path("run.toml"));
        command.args(["--output", &self.url(name), "--lease", lease]);
        command.arg("--scratch").arg(self.scene.path(machine));
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.envs(self.bucket.environment());
        command
    }

    pub fn start(&self, name: &str, machine: &str, lease: &str, settings: &[&str]) -> Process {
        Process::start(self.command(name, machine, lease, settings))
    }

    /// Does the run called `name` with two workers, requires that both end with `code`, and returns the messages of the
    /// first.
    fn two_workers_end(
        &self,
        name: &str,
        machine: &str,
        lease: &str,
        settings: &[&str],
        code: i32,
    ) -> String {
        let command = |_: usize| self.command(name, machine, lease, settings);
        let (group, ends) = Group::finish(|| Group::of(2, command));
        let mut messages = group.messages();
        for (end, messages) in ends.iter().zip(&messages) {
            assert_eq!(end.code(), Some(code), "{messages}");
        }
        messages.swap_remove(0)
    }

    /// Does the run called `name` while the store does not answer at its end: `machine` keeps the finished run, which the
    /// bucket lacks. Then the store answers again.
    fn finish_without_store(&self, name: &str, machine: &str, settings: &[&str]) {
        let mut command = self.command(name, machine, "3600", settings);
        command.args(["--bucket-patience", "1"]);
        let mut process = Process::start(command);
        self.wait_for_checkpoint(name, &mut process);
        self.bucket.stall();
        assert_eq!(process.wait().code(), Some(1), "{}", process.stderr());
        let said = process.stderr();
        let folder = self.folder(name, machine);
        for part in [
            "lacks the last state",
            "nothing is lost",
            folder.to_str().unwrap(),
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        self.bucket.restore();
        let record = eventually("an answer of the store", || self.record(name));
        assert!(record["files"].get("manifest.json").is_none());
    }

    pub fn url(&self, name: &str) -> String {
        self.bucket.url(&format!("runs/{name}"))
    }

    /// The folder in which `machine` does the run.
    pub fn folder(&self, name: &str, machine: &str) -> PathBuf {
        let digest = Sha256::of(self.url(name).as_bytes());
        let scratch = self.scene.path(machine).join(&digest.as_str()[..16]);
        scratch.join("run").join(name)
    }

    /// The record of the run in the bucket.
    pub fn record(&self, name: &str) -> Option<Value> {
        let json = self.bucket.object(&format!("runs/{name}/run.json"))?;
        Some(serde_json::from_slice(&json).unwrap())
    }

    /// Waits until the bucket has a checkpoint of the run.
    pub fn wait_for_checkpoint(&self, name: &str, process: &mut Process) {
        eventually("a checkpoint in the bucket", || {
            assert!(process.is_running(), "{}", process.stderr());
            let record = self.record(name)?;
            let mut files = record["files"].as_object().unwrap().keys();
            files
                .any(|file| file.starts_with("checkpoints/"))
                .then_some(())
        });
    }

    /// Downloads the finished run.
    pub fn fetched(&self, name: &str) -> Result {
        let folder = self.scene.path(&format!("fetched {name}"));
        let mut command = Command::new(TRAINER);
        command.args(["fetch", &self.url(name)]).arg(&folder);
        let done = command.envs(self.bucket.environment()).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        self.scene.result_in(&folder)
    }
}

#[test]
fn an_interrupted_run_continues_on_another_machine_with_the_bytes_of_an_undisturbed_one() {
    let scene = BucketScene::new();
    let undisturbed = scene.scene.finish("undisturbed", &[], &[LONG]);
    let other = scene.scene.finish("other", &[], &[LONG, "seed=2"]);
    assert_ne!(undisturbed, other, "another seed must give another student");
    // A killed trainer keeps its lease to the end; one that is asked to stop ends it.
    for (signal, lease) in [("KILL", "4"), ("TERM", "3600")] {
        let (first, second) = (format!("first {signal}"), format!("second {signal}"));
        let mut process = scene.start(signal, &first, lease, &[LONG]);
        scene.wait_for_checkpoint(signal, &mut process);
        process.signal(signal);
        let ended = process.wait();
        assert_eq!(ended.success(), signal == "TERM", "{}", process.stderr());
        let record = scene.record(signal).unwrap();
        assert!(record["files"].get("manifest.json").is_none(), "too late");
        assert_eq!(record.get("lease").is_some(), signal == "KILL");
        fs::remove_dir_all(scene.scene.path(&first)).unwrap();

        let mut process = scene.start(signal, &second, lease, &[LONG]);
        assert!(process.wait().success(), "{}", process.stderr());
        let said = process.stderr();
        let url = scene.url(signal);
        for part in [
            "downloads the run from",
            "resumes from step",
            "the run is in s3://",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        let waits = format!("had the lease of {url}");
        assert_eq!(said.contains(&waits), signal == "KILL", "{said}");
        assert_eq!(scene.fetched(signal), undisturbed);
        assert!(!scene.folder(signal, &second).exists());

        let again = scene
            .command(signal, &second, lease, &[LONG])
            .output()
            .unwrap();
        assert_eq!(again.status.code(), Some(1));
        let said = stderr(&again);
        assert!(said.contains("already holds a finished run"), "{said}");
    }
}

#[test]
fn a_second_trainer_is_refused_while_the_first_lives() {
    let scene = BucketScene::new();
    let mut first = scene.start("run", "first", "8", &[ENDLESS]);
    scene.wait_for_checkpoint("run", &mut first);
    for (machine, reason) in [
        ("second", "another trainer (process "),
        ("first", "another trainer on this machine uses"),
    ] {
        let second = scene
            .command("run", machine, "8", &[ENDLESS])
            .output()
            .unwrap();
        assert_eq!(second.status.code(), Some(1));
        let said = stderr(&second);
        assert!(
            said.contains(reason) && said.contains(&scene.url("run")),
            "{said}"
        );
    }
    assert!(first.is_running(), "{}", first.stderr());
}

#[test]
fn a_run_outlasts_a_store_that_does_not_answer() {
    let scene = BucketScene::new();
    let undisturbed = scene.scene.finish("undisturbed", &[], &[LONG]);
    let mut process = scene.start("run", "machine", "8", &[LONG]);
    scene.wait_for_checkpoint("run", &mut process);
    scene.bucket.stall();
    eventually("the end of the training and a failed upload", || {
        assert!(process.is_running(), "{}", process.stderr());
        let has_trained = scene
            .folder("run", "machine")
            .join("manifest.json")
            .exists();
        let has_failed = process
            .stderr()
            .contains("a request for the bucket of the run failed");
        (has_trained && has_failed).then_some(())
    });
    scene.bucket.restore();
    assert!(process.wait().success(), "{}", process.stderr());
    assert_eq!(scene.fetched("run"), undisturbed);
}

#[test]
fn a_run_whose_store_stays_away_is_kept_and_copied_by_the_same_command() {
    let scene = BucketScene::new();
    let undisturbed = scene.scene.finish("undisturbed", &[], &[LONG]);
    scene.finish_without_store("run", "machine", &[LONG]);

    let mut process = scene.start("run", "machine", "3600", &[LONG]);
    assert!(process.wait().success(), "{}", process.stderr());
    let said = process.stderr();
    assert!(said.contains("the run is complete; copies it"), "{said}");
    assert_eq!(scene.fetched("run"), undisturbed);
}

#[test]
fn a_run_goes_on_through_a_throttled_and_slow_store() {
    // Fewer than the files of a run: each is uploaded by a request of its own.
    const THROTTLED: usize = 12;
    let scene = BucketScene::new();
    let undisturbed = scene.scene.finish("undisturbed", &[], &[]);
    let relay = RequestRelay::to(scene.bucket.address);
    relay.slow_down(Pace {
        piece: 4096,
        pause: Duration::from_millis(1),
    });
    relay.throttle(THROTTLED);
    let mut command = scene.command("run", "machine", "60", &[]);
    command.envs(Bucket::environment_at(relay.address));
    let mut process = Process::start(command);
    assert!(process.wait().success(), "{}", process.stderr());
    assert_eq!(relay.throttled(), THROTTLED);
    assert_eq!(scene.fetched("run"), undisturbed);
}

#[test]
fn workers_of_a_complete_run_end_with_success() {
    let scene = BucketScene::new();
    let settings = [&TWO_BATCHES[..], &[LONG]].concat();
    let undisturbed = scene.scene.finish("undisturbed", &[], &settings);
    scene.finish_without_store("run", "machine", &settings);

    let said = scene.two_workers_end("run", "machine", "3600", &settings, 0);
    assert!(said.contains("the run is complete; copies it"), "{said}");
    assert!(!said.contains("another worker does not know it"), "{said}");
    assert_eq!(scene.fetched("run"), undisturbed);

    // A launcher that has lost a worker at the end starts all of them again.
    let said = scene.two_workers_end("run", "machine", "3600", &settings, 0);
    let complete = format!("the run is complete in {}", scene.url("run"));
    assert!(said.contains(&complete), "{said}");
    // Another run does not get this one's place.
    let other = [&settings[..], &["seed=2"]].concat();
    let said = scene.two_workers_end("run", "machine", "3600", &other, 1);
    assert!(said.contains("already holds a finished run"), "{said}");
}

#[test]
fn a_signal_stops_all_workers_while_the_first_one_waits_for_the_lease() {
    let scene = BucketScene::new();
    let settings = [&TWO_BATCHES[..], &[ENDLESS]].concat();
    let mut killed = scene.start("run", "killed", "3600", &settings);
    scene.wait_for_checkpoint("run", &mut killed);
    killed.signal("KILL");
    killed.wait();
    let left = scene.record("run");
    let command = |_: usize| {
        let mut command = scene.command("run", "machine", "30", &settings);
        command.args(["--stopped-exit-code", "7"]);
        command
    };
    let start = || {
        let group = Group::of(2, command);
        let until_it_says = |rank: usize, text: &str| {
            eventually(text, || {
                let says = group.messages()[rank].contains(text);
                (says || group.lost_its_port()).then_some(())
            });
        };
        until_it_says(0, "had the lease of");
        // This one waits for the first one, and stops before it loses that.
        group.signal(1, "TERM");
        until_it_says(1, "shutting down");
        group.signal(0, "TERM");
        group
    };
    let (group, ends) = Group::finish(start);
    for (end, messages) in ends.iter().zip(group.messages()) {
        assert_eq!(end.code(), Some(7), "{messages}");
    }
    assert_eq!(scene.record("run"), left);
}

#[test]
fn two_workers_train_one_run_in_a_bucket() {
    let scene = BucketScene::new();
    let alone = scene.scene.finish("alone", &[], &TWO_BATCHES);
    scene.two_workers_end("run", "machine", "30", &TWO_BATCHES, 0);
    assert_eq!(scene.fetched("run"), alone);
}
