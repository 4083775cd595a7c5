//! Runs by several processes: the same bytes for any number of them, also if one is killed and others continue.

use std::{
    fs,
    net::TcpListener,
    process::{self, Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use test_support::{InferenceService, Process, SOON, Teacher, eventually};

use super::{
    kills::until_hit,
    scene::{PHASES, Place, Scene, TRAINER, stderr},
};

/// Four batches of four samples per step: as many steps as with one batch of 16.
const FOUR_BATCHES: [&str; 6] = [
    "phases[0].batch_size=4",
    "phases[1].batch_size=4",
    "phases[2].batch_size=4",
    "phases[0].accumulate=4",
    "phases[1].accumulate=4",
    "phases[2].accumulate=4",
];

/// The same samples per step in two batches.
pub const TWO_BATCHES: [&str; 6] = [
    "phases[0].batch_size=8",
    "phases[1].batch_size=8",
    "phases[2].batch_size=8",
    "phases[0].accumulate=2",
    "phases[1].accumulate=2",
    "phases[2].accumulate=2",
];

/// Attempts to find a port that no other program takes meanwhile.
const PORTS: usize = 5;

/// The processes of one run, by rank.
pub struct Group(Vec<Process>);

impl Group {
    /// Starts groups with `start` until one gets its port, and waits for the end of that one.
    pub fn finish(start: impl Fn() -> Self) -> (Self, Vec<ExitStatus>) {
        for _ in 0..PORTS {
            let mut group = start();
            let ends = group.wait();
            if !group.lost_its_port() {
                return (group, ends);
            }
        }
        panic!("{PORTS} ports were taken");
    }

    /// Starts `count` workers that meet at a free port, the one with rank r with `command(r)`.
    pub fn of(count: usize, command: impl Fn(usize) -> Command) -> Self {
        Self::some_of(count, 0..count, command)
    }

    /// [`Self::of`], but starts only the workers with these ranks.
    fn some_of(
        count: usize,
        ranks: impl IntoIterator<Item = usize>,
        command: impl Fn(usize) -> Command,
    ) -> Self {
        let port = free_port().to_string();
        let start = |rank: usize| {
            let mut command = command(rank);
            command.env("WORLD_SIZE", count.to_string());
            command.env("RANK", rank.to_string());
            command.env("MASTER_ADDR", "127.0.0.1");
            command.env("MASTER_PORT", &port);
            Process::start(command)
        };
        Self(ranks.into_iter().map(start).collect())
    }

    /// Starts `count` workers for the run called `name`, the one with rank r with the settings `settings(r)`.
    fn start<'s>(
        scene: &Scene,
        name: &str,
        teachers: &[&Teacher],
        count: usize,
        settings: impl Fn(usize) -> Vec<&'s str>,
    ) -> Self {
        // Long enough for a loaded machine.
        Self::start_waiting(scene, name, teachers, count, settings, SOON)
    }

    /// [`Self::start`], with the time that workers wait for each other.
    fn start_waiting<'s>(
        scene: &Scene,
        name: &str,
        teachers: &[&Teacher],
        count: usize,
        settings: impl Fn(usize) -> Vec<&'s str>,
        timeout: Duration,
    ) -> Self {
        Self::of(count, |rank| {
            let mut command = scene.command(name, teachers, &settings(rank));
            let seconds = timeout.as_secs().to_string();
            command.args(["--worker-timeout", &seconds]);
            command
        })
    }

    /// Waits for the ends of all.
    fn wait(&mut self) -> Vec<ExitStatus> {
        let Self(workers) = self;
        let ends = workers.iter_mut().map(|it| it.wait_within(3 * SOON));
        ends.collect()
    }

    /// Sends a signal to the worker at this place of the started ones.
    pub fn signal(&self, place: usize, name: &str) {
        self.0[place].signal(name);
    }

    pub fn messages(&self) -> Vec<String> {
        self.0.iter().map(Process::stderr).collect()
    }

    /// Whether another program took the port of the group before it did.
    pub fn lost_its_port(&self) -> bool {
        self.messages()
            .iter()
            .any(|text| text.contains("EADDRINUSE"))
    }
}

/// A free port outside the range from which the kernel gives ports to others; no other test process tries the same ones.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (process::id().wrapping_mul(64).wrapping_add(tried)) % 20_000;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Finishes the run called `name` with `count` workers.
fn finish(scene: &Scene, name: &str, teachers: &[&Teacher], count: usize) {
    let settings = |_: usize| FOUR_BATCHES.to_vec();
    let start = || Group::start(scene, name, teachers, count, settings);
    let (group, ends) = Group::finish(start);
    for (end, messages) in ends.iter().zip(group.messages()) {
        assert!(end.success(), "{messages}");
    }
}

fn onnx(scene: &Scene, name: &str) -> Vec<u8> {
    fs::read(scene.path(name).join("artifact/model.onnx")).unwrap()
}

#[test]
fn one_two_and_four_workers_give_the_same_student() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let teachers = [&teacher];
    let alone = scene.finish("1", &teachers, &FOUR_BATCHES);
    for count in [2, 4] {
        let name = count.to_string();
        finish(&scene, &name, &teachers, count);
        assert_eq!(scene.result(&name), alone, "{count} workers");
        let verified = scene.verify(&name);
        assert!(verified.status.success(), "{}", stderr(&verified));
    }
    scene.finish("other", &teachers, &TWO_BATCHES);
    assert!(
        onnx(&scene, "other") != onnx(&scene, "1"),
        "two batches per step must give another student than four"
    );
}

#[test]
fn a_group_that_loses_a_worker_in_each_phase_goes_on_in_another_number_to_the_same_student() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let teachers = [&teacher];
    let undisturbed = scene.finish("undisturbed", &teachers, &FOUR_BATCHES);
    until_hit("killed", |name| {
        for (phase, (count, killed)) in [(2, 1), (4, 0), (2, 0)].into_iter().enumerate() {
            let settings = |_: usize| FOUR_BATCHES.to_vec();
            let mut group = Group::start(&scene, name, &teachers, count, settings);
            let aim = Place {
                phase,
                step: 15 + 10 * phase as u64,
            };
            scene.wait_for(name, aim, &mut group.0[0]);
            group.0[killed].signal("KILL");
            let ends = group.wait();
            eprintln!("{name}: killed {killed} of {count} in {}", PHASES[phase]);
            if !scene.ended_within(name, phase) {
                return false;
            }
            assert!(ends.iter().all(|end| !end.success()), "{ends:?}");
            for (rank, text) in group.messages().iter().enumerate() {
                let says_why = text.contains("lost contact with the others");
                assert!(rank == killed || says_why, "{rank}: {text}");
            }
        }
        finish(&scene, name, &teachers, 4);
        assert_eq!(scene.result(name), undisturbed);
        true
    });
}

#[test]
fn the_first_worker_of_a_group_publishes_one_version() {
    let scene = Scene::without_teacher();
    let folder = scene.path("inference");
    fs::create_dir(&folder).unwrap();
    let service = InferenceService::start_empty(TRAINER, &folder, &[]);
    let admin = service.address("admin");
    let publish = format!("publish={{ endpoint = \"{admin}\", model = \"m\" }}");
    let settings = |_: usize| [&FOUR_BATCHES[..], &[publish.as_str()]].concat();
    let start = || Group::start(&scene, "run", &[], 2, settings);
    let (group, ends) = Group::finish(start);
    assert!(ends.iter().all(ExitStatus::success), "{ends:?}");
    let messages = group.messages();
    let published =
        [0, 1].map(|rank: usize| messages[rank].contains("published as version 1 of m"));
    assert_eq!(published, [true, false], "{messages:?}");
    // A second publish of the same model would say so.
    let again = messages
        .iter()
        .any(|text| text.contains("published before"));
    assert!(!again, "{messages:?}");

    let entries = fs::read_dir(folder.join("models/m")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let versions: Vec<_> = names.filter(|name| name.parse::<u64>().is_ok()).collect();
    assert_eq!(versions, ["1"]);
    let served = fs::read(folder.join("models/m/1/model.onnx")).unwrap();
    assert!(served == onnx(&scene, "run"), "another model");
    let manifest = fs::read(scene.path("run/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["published_version"], 1);
}

#[test]
fn a_worker_that_hangs_ends_the_others_after_their_time_out() {
    // Long enough for the processes to start on a loaded machine.
    const TIMEOUT: Duration = Duration::from_secs(20);
    let scene = Scene::without_teacher();
    until_hit("hangs", |name| {
        let settings = |_: usize| FOUR_BATCHES.to_vec();
        let mut group = Group::start_waiting(&scene, name, &[], 2, settings, TIMEOUT);
        let Group(workers) = &mut group;
        let aim = Place { phase: 0, step: 15 };
        scene.wait_for(name, aim, &mut workers[0]);
        workers[1].signal("STOP");
        let end = workers[0].wait();
        if end.success() {
            // The run was over before the worker was stopped.
            return false;
        }
        let text = workers[0].stderr();
        let expected = "worker 0 of 2 lost contact with the others (";
        assert!(
            text.contains(expected) && text.contains("Timed out"),
            "{text}"
        );
        true
    });
}

#[test]
fn a_signal_ends_a_worker_that_waits_for_the_others() {
    let scene = Scene::without_teacher();
    for rank in [0, 1] {
        let start = || {
            let group = Group::some_of(2, [rank], |_| {
                let mut command = scene.command("waits", &[], &FOUR_BATCHES);
                command.args(["--stopped-exit-code", "7"]);
                command
            });
            eventually("a worker that waits", || {
                let text = &group.messages()[0];
                text.contains("waiting for the other workers").then_some(())
            });
            group.signal(0, "TERM");
            group
        };
        let (group, ends) = Group::finish(start);
        let text = &group.messages()[0];
        assert_eq!(ends[0].code(), Some(7), "{text}");
        let expected = format!("worker {rank} of 2 at 127.0.0.1:");
        assert!(text.contains(&expected), "{text}");
        assert!(text.contains("stopped before all others"), "{text}");
        assert!(!scene.path("waits").exists());
    }
}

#[test]
fn workers_that_cannot_train_together_end_with_the_reason() {
    let scene = Scene::without_teacher();
    let with_seed = |rank: usize| {
        let seed = ["seed=1", "seed=2"][rank];
        [&FOUR_BATCHES[..], &[seed]].concat()
    };
    let start = || Group::start(&scene, "seeds", &[], 2, with_seed);
    let (group, ends) = Group::finish(start);
    assert!(ends.iter().all(|end| end.code() == Some(1)), "{ends:?}");
    for text in group.messages() {
        let expected = "worker 1 has seed = 2, but worker 0 has 1";
        assert!(text.contains(expected), "{text}");
    }
    let settings = |_: usize| FOUR_BATCHES.to_vec();
    let start = || Group::start(&scene, "three", &[], 3, settings);
    let (group, ends) = Group::finish(start);
    assert!(ends.iter().all(|end| end.code() == Some(1)), "{ends:?}");
    for text in group.messages() {
        let expected = "phases[0].accumulate is 4, which 3 workers cannot divide";
        assert!(text.contains(expected), "{text}");
    }
}
