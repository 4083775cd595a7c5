//! Faults of teachers change neither the student's bytes nor the digest of its training data.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::distillation::{Run, Scene, Size, TEACHER, TEACHER_NETWORK, TRAINER, consumed, student};
use test_support::{
    NameServer, Teacher, built_beside, eventually, eventually_constant, own_host, write_artifact,
};

const SHORT: Size = Size {
    steps: 40,
    epochs: 2,
    widths: [16, 32],
};

/// Minimum duration of an undisturbed run's training in seconds: long enough for all faults below.
const TRAINING_SECONDS: f64 = 40.0;

/// The number of epochs follows from the speed of this machine and [`TRAINING_SECONDS`].
static SIZE: LazyLock<Size> = LazyLock::new(|| {
    let scene = Scene::new(SHORT);
    let fleet = Fleet::start(&scene, 21..=22);
    scene.run("pace", &fleet.endpoints(), &[]).succeed();
    let log = fs::read_to_string(scene.path("pace/metrics.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let last_epoch = events
        .rev()
        .find(|event: &serde_json::Value| event["event"] == "epoch_finished");
    let seconds = last_epoch.unwrap()["seconds"].as_f64().unwrap();
    let epochs = (TRAINING_SECONDS / seconds).ceil() as usize;
    println!("{epochs} epochs of {seconds:.2} s");
    Size {
        epochs: epochs.clamp(20, 5_000),
        ..SHORT
    }
});

fn batches() -> f64 {
    (SIZE.steps * SIZE.epochs) as f64
}

/// All teachers have the same port and different addresses, like the replicas of a scaled service.
const PORT: u16 = 50051;

/// The results that every disturbed run must reproduce.
struct Undisturbed {
    scene: Scene,
    student: [Vec<u8>; 2],
    consumed: String,
}

static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let scene = Scene::new(*SIZE);
    let fleet = Fleet::start(&scene, 1..=2);
    let began = Instant::now();
    let mut run = scene.run("undisturbed", &fleet.endpoints(), &[]);
    let peaks = peaks(&mut run, &fleet);
    run.succeed();
    println!("undisturbed: {:.1} s", began.elapsed().as_secs_f64());
    println!("peak memory of trainer and teacher, MiB, epoch 5 on: {peaks:?}");
    let (early, late) = (peaks[0], peaks[peaks.len() - 1]);
    assert!(late.0 <= early.0 + 16, "the trainer's memory grows");
    assert!(late.1 <= early.1 + 16, "a teacher's memory grows");
    let folder = scene.path("undisturbed");
    verify(&folder);
    Undisturbed {
        student: student(&folder),
        consumed: consumed(&folder),
        scene,
    }
});

/// Samples the peak memory of a run's trainer and its first teacher, in MiB, until training ends: the
/// export afterwards loads another library.
fn peaks(run: &mut Run, fleet: &Fleet) -> Vec<(u64, u64)> {
    eventually("epoch 5", || {
        (run.metric("retort_trainer_epoch") >= 5.0).then_some(())
    });
    let teacher = &fleet.teacher(1).process;
    let mut peaks = Vec::new();
    let last_but_one = format!("epoch {}/{}", SIZE.epochs - 1, SIZE.epochs);
    loop {
        let is_running = run.process.is_running();
        if run.process.stderr().contains(&last_but_one) {
            return peaks;
        }
        assert!(is_running);
        let peak = run.process.peak_memory().zip(teacher.peak_memory());
        peaks.extend(peak.filter(|peak| peaks.last() != Some(peak)));
        thread::sleep(Duration::from_millis(100));
    }
}

impl Undisturbed {
    fn assert_same(&self, folder: &Path) {
        assert!(self.student == student(folder), "another student");
        assert_eq!(self.consumed, consumed(folder));
        verify(folder);
    }
}

/// Checks with another program that the run used each (sample, view, teacher) exactly once.
fn verify(folder: &Path) {
    let mut retort = Command::new(built_beside(TRAINER, "retort"));
    let verified = retort.args(["run", "--verify"]).arg(folder).output();
    let verified = verified.unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
}

fn endpoint(number: u8) -> String {
    format!("{}:{PORT}", own_host(number))
}

/// Teachers that a test adds, kills and restarts.
struct Fleet {
    artifact: PathBuf,
    members: Vec<Member>,
}

struct Member {
    number: u8,
    up: Option<Teacher>,
    starting: Option<JoinHandle<Teacher>>,
    /// Number of batches that killed processes of this member answered.
    answered_before: f64,
}

impl Fleet {
    /// Starts teachers and waits until they serve.
    fn start(scene: &Scene, numbers: impl IntoIterator<Item = u8>) -> Self {
        let mut fleet = Self {
            artifact: scene.artifact(),
            members: Vec::new(),
        };
        fleet.add(numbers);
        fleet
    }

    fn add(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            self.members.push(Member {
                number,
                up: None,
                starting: Some(launch(&self.artifact, number)),
                answered_before: 0.0,
            });
        }
        eventually("teachers that serve", || {
            self.settle();
            self.members
                .iter()
                .all(|member| member.up.is_some())
                .then_some(())
        });
    }

    /// Moves started teachers to `up`.
    fn settle(&mut self) {
        for member in &mut self.members {
            if member
                .starting
                .as_ref()
                .is_some_and(JoinHandle::is_finished)
            {
                member.up = member
                    .starting
                    .take()
                    .map(|teacher| teacher.join().unwrap());
            }
        }
    }

    fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| endpoint(member.number))
            .collect()
    }

    fn teacher(&self, number: u8) -> &Teacher {
        let member = self.members.iter().find(|member| member.number == number);
        member.unwrap().up.as_ref().unwrap()
    }

    /// Positions of the teachers that have answered twice since they started. After a single answer, the
    /// trainer may not have received it yet.
    fn busy(&self) -> Vec<usize> {
        let busy = |index: &usize| {
            let teacher = self.members[*index].up.as_ref();
            teacher.is_some_and(|teacher| teacher.answered() > 1.0)
        };
        (0..self.members.len()).filter(busy).collect()
    }

    /// Number of batches that all teachers answered, including killed ones.
    fn answered(&self) -> f64 {
        let answered = |member: &Member| {
            member.answered_before + member.up.as_ref().map_or(0.0, Teacher::answered)
        };
        self.members.iter().map(answered).sum()
    }

    /// Kills a teacher with SIGKILL and starts it again at the same address.
    fn restart(&mut self, index: usize) {
        let member = &mut self.members[index];
        let teacher = member.up.take().unwrap();
        member.answered_before += teacher.answered();
        teacher.process.signal("KILL");
        drop(teacher);
        member.starting = Some(launch(&self.artifact, member.number));
    }

    /// Restarts the teachers with these numbers at their addresses, and waits until they serve.
    fn bring_back(&mut self, numbers: &[u8]) {
        self.members
            .retain(|member| !numbers.contains(&member.number));
        self.add(numbers.iter().copied());
    }
}

fn launch(artifact: &Path, number: u8) -> JoinHandle<Teacher> {
    let artifact = artifact.to_owned();
    thread::spawn(move || Teacher::start_at(&TEACHER, &artifact, &endpoint(number), &[]))
}

/// Pseudorandom choices, the same in every run (Knuth's MMIX generator).
struct Choices(u64);

impl Choices {
    fn pick(&mut self, from: &[usize]) -> usize {
        let Self(state) = self;
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        from[(*state >> 33) as usize % from.len()]
    }
}

/// Returns both counts of every "(answered 7 batches; 3 return to the queue)" in notices of lost teachers.
fn losses(output: &str) -> Vec<(u64, u64)> {
    let counts = |line: &str| {
        let (_, counts) = line.rsplit_once("(answered ")?;
        let (answered, rest) = counts.split_once(" batches; ")?;
        let (back, _) = rest.split_once(" return")?;
        Some((answered.parse().unwrap(), back.parse().unwrap()))
    };
    let notices = output.lines().filter(|line| line.starts_with("teacher "));
    notices.filter_map(counts).collect()
}

#[test]
fn teachers_killed_twenty_times_leave_no_trace() {
    let undisturbed = &*UNDISTURBED;
    let scene = &undisturbed.scene;
    let mut fleet = Fleet::start(scene, 11..=14);
    let mut choices = Choices(1);
    let began = Instant::now();
    let patient = ["teacher.wait_timeout_seconds=600"];
    let mut run = scene.run("killed", &fleet.endpoints(), &patient);
    for kill in 1..=20 {
        let victim = eventually("a busy teacher", || {
            assert!(run.process.is_running(), "the run ended before kill {kill}");
            fleet.settle();
            let busy = fleet.busy();
            (!busy.is_empty()).then(|| choices.pick(&busy))
        });
        let batch = fleet.answered();
        // All batches belong to the only phase, a distill phase.
        assert!(batch < batches(), "kill {kill} comes too late");
        assert_eq!(run.metric("retort_trainer_phase{kind=\"distill\"}"), 1.0);
        let pid = fleet.members[victim].up.as_ref().unwrap().process.id();
        let endpoint = endpoint(fleet.members[victim].number);
        let time = began.elapsed().as_secs_f64();
        println!(
            "kill {kill}: {endpoint}, pid {pid}, at batch {batch} of {}, {time:.1} s",
            batches()
        );
        fleet.restart(victim);
    }
    let folder = run.folder.clone();
    let output = run.succeed();
    undisturbed.assert_same(&folder);

    let losses = losses(&output);
    assert!(
        losses.len() >= 20,
        "{} victims were connected",
        losses.len()
    );
    assert!(
        losses.iter().all(|(answered, _)| *answered > 0),
        "{losses:?}"
    );
    let back: u64 = losses.iter().map(|(_, back)| back).sum();
    println!("{back} batches returned to the queue");
    assert!(back >= 10, "the victims were idle: {losses:?}");
}

#[test]
fn teachers_stopped_added_removed_and_all_away_leave_no_trace() {
    let undisturbed = &*UNDISTURBED;
    let scene = &undisturbed.scene;
    let mut fleet = Fleet::start(scene, 1..=2);
    let names = NameServer::start(&[1, 2].map(own_host));
    let mut run = scene.run(
        "disturbed",
        &[format!("teacher.test:{PORT}")],
        &[
            &format!("teacher.name_server=\"{}\"", names.address),
            "teacher.wait_timeout_seconds=600",
        ],
    );

    // One teacher is suspended for ten seconds and does not answer.
    uses(&run, &fleet, 1);
    fleet.teacher(1).process.signal("STOP");
    let stopped = Instant::now();
    let helped = eventually("another teacher takes over batches", || {
        let hedged = run.metric("retort_trainer_batches_hedged_total");
        let back = run.metric("retort_trainer_batches_requeued_total");
        (hedged + back > 0.0).then_some((hedged, back))
    });
    println!(
        "stopped: {} batches hedged, {} requeued",
        helped.0, helped.1
    );
    thread::sleep(Duration::from_secs(10).saturating_sub(stopped.elapsed()));
    fleet.teacher(1).process.signal("CONT");
    uses(&run, &fleet, 1);

    // Two teachers join in the middle of an epoch.
    fleet.add(3..=4);
    names.set(&[1, 2, 3, 4].map(own_host));
    let joined = Instant::now();
    uses(&run, &fleet, 3);
    uses(&run, &fleet, 4);
    println!(
        "two more answered after {:.1} s",
        joined.elapsed().as_secs_f64()
    );
    assert!(run.metric("retort_trainer_teachers") >= 3.0);

    // The name no longer resolves to one teacher: the pool drops it, although it still serves.
    names.set(&[1, 3, 4].map(own_host));
    let removed = Instant::now();
    run.says(&format!("({}) has left", endpoint(2)));
    println!(
        "one teacher left after {:.1} s",
        removed.elapsed().as_secs_f64()
    );
    let answered = fleet.teacher(2).answered();

    // No teacher is available for fifteen seconds.
    for number in [1, 3, 4] {
        fleet.teacher(number).process.signal("KILL");
    }
    run.says("no teacher is connected; training waits");
    let samples = || run.metric("retort_trainer_samples_total");
    eventually_constant("training", samples);
    let before = samples();
    assert!(before < batches() * crate::distillation::BATCH_SIZE as f64);
    thread::sleep(Duration::from_secs(15));
    assert_eq!(samples(), before, "training waits");
    assert!(run.process.is_running());
    fleet.bring_back(&[1, 3, 4]);
    run.says("a teacher is available again");
    for number in [1, 3, 4] {
        uses(&run, &fleet, number);
    }
    assert!(run.metric("retort_trainer_without_teacher_seconds_total") >= 15.0);
    assert_eq!(
        fleet.teacher(2).answered(),
        answered,
        "a teacher that left received batches"
    );

    let folder = run.folder.clone();
    run.succeed();
    undisturbed.assert_same(&folder);
}

/// Waits until a teacher answers another batch.
fn uses(run: &Run, fleet: &Fleet, number: u8) {
    let teacher = fleet.teacher(number);
    let before = teacher.answered();
    eventually("an answer", || (teacher.answered() > before).then_some(()));
    let (epoch, step) = (
        run.metric("retort_trainer_epoch"),
        run.metric("retort_trainer_step"),
    );
    println!("teacher {number} answers; training is at epoch {epoch}, step {step}");
}

#[test]
fn another_teacher_does_leave_a_trace() {
    let scene = Scene::new(Size { epochs: 1, ..SHORT });
    let other = scene.path("other");
    write_artifact(&other, TEACHER_NETWORK, 2);
    let teachers = [scene.teacher(&[]), Teacher::start(&TEACHER, &other, &[])];
    for (teacher, name) in teachers.iter().zip(["a", "b"]) {
        scene.run(name, &[teacher.grpc.to_string()], &[]).succeed();
    }
    let [a, b] = ["a", "b"].map(|name| scene.path(name));
    assert_ne!(student(&a), student(&b));
    assert_ne!(consumed(&a), consumed(&b));
}
