//! Runs with several teachers: an ensemble of them, and routes of samples.

use std::{fs, sync::Arc};

use datasets::{Source, Split, Subset, load_idx};
use test_support::{Process, Teacher, eventually};

use super::scene::{SLOW_NETWORK, Scene, fails, manifest};
use crate::small_disk::SmallDisk;

/// Another network and another size of images than the first teacher's.
const WIDE_NETWORK: &str =
    "input = [1, 14, 14]\nclasses = 10\npreset = \"cnn\"\nwidths = [24]\nstrides = [1]";

const BOTH: &str = "ensembles.both={ teachers = { big = 0.7, wide = 0.3 } }";
const BY_CLASS: &str = "routes.by_class={ by = \"class\", default = \"wide\", \
                        teachers = { big = [\"Bag\", \"Coat\", \"Sandal\"] } }";
/// The first phase learns from both teachers, the second from that of each sample's class.
const LOSSES: [&str; 2] = [
    "phases[0].loss={ kind = \"soft_cross_entropy\", temperature = 2.0, teacher = \"both\" }",
    "phases[1].loss=[{ kind = \"kd\", temperature = 2.0, weight = 0.5, teacher = \"by_class\" }, \
     { kind = \"cross_entropy\", weight = 0.5 }]",
];

/// The first phase learns from the teacher of the route `r`, the second from labels.
const ROUTED: [&str; 2] = [
    "phases[0].loss={ kind = \"soft_cross_entropy\", temperature = 2.0, teacher = \"r\" }",
    "phases[1].loss=[{ kind = \"cross_entropy\" }]",
];

struct Teachers {
    big: Teacher,
    wide: Teacher,
}

impl Teachers {
    fn start(scene: &Scene) -> Self {
        Self {
            // Full precision, because the tests compare all bits.
            big: scene.teacher_with("f32"),
            wide: scene.other_teacher("wide", WIDE_NETWORK),
        }
    }

    /// The settings of a run that uses them, besides ensemble and route. It waits `patience` seconds for each.
    fn settings(&self, patience: u32) -> Vec<String> {
        let pools = [("big", &self.big), ("wide", &self.wide)];
        let pools = pools.map(|(name, teacher)| {
            let address = teacher.grpc;
            format!("teachers.{name}={{ endpoints = [\"{address}\"], wait_timeout_seconds = {patience} }}")
        });
        pools.into_iter().chain(LOSSES.map(str::to_owned)).collect()
    }
}

fn with<'s>(settings: &'s [String], more: &[&'s str]) -> Vec<&'s str> {
    let settings = settings.iter().map(String::as_str);
    settings.chain(more.iter().copied()).collect()
}

/// The setting that names the recording of each teacher of the finished run `name`.
fn recordings_of(scene: &Scene, name: &str) -> String {
    let manifest = manifest(scene, name);
    let teachers = &manifest["teachers"];
    let digits = ["big", "wide"].map(|name| {
        let model_id = teachers[name]["identity"]["model_id"].as_str().unwrap();
        format!("{name} = \"{}\"", &model_id[..20])
    });
    format!("soft_targets.teachers={{ {} }}", digits.join(", "))
}

#[test]
fn two_teachers_live_and_recorded_give_the_same_student_and_other_weights_another() {
    let scene = Scene::new();
    let teachers = Teachers::start(&scene);
    let settings = teachers.settings(60);
    let (live, _) = scene.run("live", &with(&settings, &[BOTH, BY_CLASS]));
    // Negative controls: another ensemble, and another route.
    for (name, ensemble, route) in [
        ("weights", BOTH.replace("0.7", "0.6"), BY_CLASS.to_owned()),
        (
            "logits",
            BOTH.replace("} }", "}, of = \"logits\" }"),
            BY_CLASS.to_owned(),
        ),
        ("route", BOTH.to_owned(), BY_CLASS.replace("\"Bag\", ", "")),
    ] {
        let (other, _) = scene.run(name, &with(&settings, &[&ensemble, &route]));
        assert!(other != live, "{name}: the same student");
    }

    let mode = "soft_targets.mode=record";
    let (record, said) = scene.run("record", &with(&settings, &[BOTH, BY_CLASS, mode]));
    assert!(record == live, "recording changes the student");
    for name in ["big", "wide"] {
        let part = format!("teacher {name}: recorded view 3 of 3");
        assert!(said.contains(&part), "{part} is not in: {said}");
    }
    assert!(!said.contains("no term of this run uses"), "{said}");
    let answered = || [&teachers.big, &teachers.wide].map(Teacher::answered);
    let before = answered();
    // Both recordings are complete.
    scene.record(&with(&settings, &[BOTH, BY_CLASS]));
    assert_eq!(answered(), before);
    let digits = recordings_of(&scene, "record");
    drop(teachers);

    let mode = "soft_targets.mode=recorded";
    let [first, second] = LOSSES;
    let recorded = |digits| [first, second, BOTH, BY_CLASS, mode, digits];
    let (student, said) = scene.run("recorded", &recorded(digits.as_str()));
    assert!(student == live, "replay changes the student");
    assert!(said.contains("teacher wide: the recording"), "{said}");
    let runs = ["live", "record", "recorded"].map(|name| manifest(&scene, name));
    for run in &runs[1..] {
        assert_eq!(run["teachers"], runs[0]["teachers"]);
        for phase in 0..2 {
            let digest = |run: &serde_json::Value| run["phases"][phase]["consumed_sha256"].clone();
            assert_eq!(digest(run), digest(&runs[0]));
        }
    }
    assert_eq!(runs[0]["teacher"], serde_json::Value::Null);
    assert_ne!(
        runs[0]["teachers"]["big"]["identity"],
        runs[0]["teachers"]["wide"]["identity"]
    );
    // Exchanged recordings give another student.
    let exchanged = digits
        .replace("big", "other")
        .replace("wide", "big")
        .replace("other", "wide");
    let (student, _) = scene.run("exchanged", &recorded(exchanged.as_str()));
    assert!(student != live);
}

#[test]
fn a_teacher_gets_only_the_samples_of_its_route() {
    let scene = Scene::new();
    let teachers = Teachers::start(&scene);
    let settings = teachers.settings(60);
    let pools = &settings[..2];
    // The positions of the training samples differ from those in the data set.
    let held_out = "data.validation_samples=31";
    let train = training_samples(&scene, 31);
    let count = |is_sent: &dyn Fn(u32) -> bool| {
        let samples = 0..train.len() as u32;
        samples.filter(|sample| is_sent(*sample)).count()
    };
    let bags = count(&|sample| train.label(sample) == Some(8));
    let first = count(&|sample| train.stored_position(sample) < 100);
    assert!(bags > 0 && first > bags && first < 100);
    // With batches of one sample, a teacher answers as many batches as it gets samples.
    let [epochs, batch_size] = ["phases[0].epochs=1", "phases[0].batch_size=1"];
    for (by, listed, of_big) in [
        ("class", "Bag", bags),
        ("position", "0..100", first),
        ("labelled", "unlabelled", 0),
    ] {
        let route = route_by(by, listed);
        let answered = || [&teachers.big, &teachers.wide].map(Teacher::answered);
        let before = answered();
        let [soft, hard] = ROUTED;
        let more = [route.as_str(), held_out, epochs, batch_size, soft, hard];
        scene.run(by, &with(pools, &more));
        let after = answered();
        let samples = [of_big, train.len() - of_big].map(|samples| samples as f64);
        assert_eq!([0, 1].map(|it| after[it] - before[it]), samples, "{by}");
    }
}

#[test]
fn a_route_by_position_gives_the_same_student_live_and_recorded() {
    let scene = Scene::new();
    let teachers = Teachers::start(&scene);
    let settings = teachers.settings(60);
    let pools = &settings[..2];
    let [soft, hard] = ROUTED;
    let [route, other] = ["0..100", "0..200"].map(|range| route_by("position", range));
    let same = [
        soft,
        hard,
        "data.validation_samples=31",
        "phases[0].epochs=1",
    ];
    let live = [&same[..], &[route.as_str()]].concat();
    let (live, _) = scene.run("live", &with(pools, &live));
    let record = [&same[..], &[route.as_str(), "soft_targets.mode=record"]].concat();
    let (record, said) = scene.run("record", &with(pools, &record));
    assert!(record == live, "recording changes the student");
    let train = training_samples(&scene, 31);
    let positions = (0..train.len() as u32).map(|sample| train.stored_position(sample));
    let of_big = positions.filter(|position| *position < 100).count();
    for (name, unused) in [("big", train.len() - of_big), ("wide", of_big)] {
        let part = format!(
            "teacher {name}: records all {} training samples; no term of this run uses {unused} of them",
            train.len()
        );
        assert!(said.contains(&part), "{part} is not in: {said}");
    }
    let digits = recordings_of(&scene, "record");
    drop(teachers);
    let replayed = |name: &str, route: &str| {
        let mode = "soft_targets.mode=recorded";
        let settings = [&same[..], &[route, mode, digits.as_str()]].concat();
        scene.run(name, &settings).0
    };
    assert!(
        replayed("same", &route) == live,
        "replay changes the student"
    );
    assert!(
        replayed("other", &other) != live,
        "{other}: the same student"
    );
}

#[test]
fn two_recordings_that_fill_a_disk_together_are_refused_before_anything_is_recorded() {
    let scene = Scene::new();
    let teachers = Teachers::start(&scene);
    let config = fs::read_to_string(scene.path("run.toml")).unwrap();
    let config = config.replacen("epochs = 5", "epochs = 10000", 1);
    fs::write(scene.path("run.toml"), config).unwrap();
    // 331 images of 40 bytes in 10,000 views take 132 MB and their headers, so one recording fits, also with the 67 MB that
    // stay free, and two do not.
    let disk = SmallDisk::mount(scene.path("disk"), 280);
    let folder = scene.path("disk/targets").display().to_string();
    let folder = format!("soft_targets.folder={folder:?}");
    let views = "soft_targets.views=10000";
    let one_shard = "soft_targets.samples_per_shard=331";
    let settings = teachers.settings(60);
    for (name, mode) in [("record", "live"), ("run", "record")] {
        let mode = format!("soft_targets.mode={mode}");
        let more = [BOTH, BY_CLASS, views, one_shard, &mode, &folder];
        let mut command = scene.command(name, &with(&settings, &more));
        if name == "run" {
            command.arg("--output").arg(scene.path(name));
        }
        let said = fails(disk.inside(&command));
        assert!(said.contains("MB would be written"), "{said}");
        assert_eq!(said.matches("disk/targets/").count(), 2, "{said}");
    }
    let answered = [&teachers.big, &teachers.wide].map(Teacher::answered);
    assert_eq!(answered, [0.0; 2]);
}

/// The setting of the route `r`, which sends `listed` samples to `big` and the others to `wide`.
fn route_by(by: &str, listed: &str) -> String {
    format!(
        "routes.r={{ by = \"{by}\", default = \"wide\", teachers = {{ big = [\"{listed}\"] }} }}"
    )
}

/// The samples that a run trains on, without the `held_out` ones.
fn training_samples(scene: &Scene, held_out: usize) -> Subset {
    let class_names: Vec<_> = (0..10).map(|class| class.to_string()).collect();
    let images = load_idx(&scene.path("data"), Split::Train, &class_names).unwrap();
    let (train, _) = Subset::whole(Arc::new(images)).hold_out(held_out).unwrap();
    train
}

/// Starts a run, waits until its first epoch is finished, and kills one of its teachers.
fn lose_wide(scene: &Scene, name: &str, settings: &[&str], wide: &Teacher) -> Process {
    let mut command = scene.command("run", settings);
    command.arg("--output").arg(scene.path(name));
    let run = Process::start(command);
    eventually("the end of an epoch", || {
        let metrics =
            fs::read_to_string(scene.path(name).join("metrics.jsonl")).unwrap_or_default();
        metrics.contains("epoch_finished").then_some(())
    });
    wide.process.signal("KILL");
    run
}

#[test]
fn a_run_that_loses_one_teacher_fails_by_its_name_or_continues_with_its_recording() {
    let scene = Scene::with_teacher(SLOW_NETWORK);
    let teachers = Teachers::start(&scene);
    let settings = teachers.settings(3);
    let (expected, _) = scene.run("undisturbed", &with(&settings, &[BOTH, BY_CLASS]));
    scene.record(&with(&settings, &[BOTH, BY_CLASS]));
    let digits = recordings_of(&scene, "undisturbed");

    let none = with(&settings, &[BOTH, BY_CLASS]);
    let mut run = lose_wide(&scene, "failed", &none, &teachers.wide);
    let (status, said) = (run.wait(), run.stderr());
    assert_eq!(status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    for part in [
        "teacher wide: the teachers are gone, no answer for 3 s",
        "to resume from",
    ] {
        assert!(last.contains(part), "{part} is not in: {said}");
    }

    let teachers = Teachers {
        big: teachers.big,
        wide: scene.other_teacher("wide", WIDE_NETWORK),
    };
    let settings = teachers.settings(3);
    let fallback = "soft_targets.fallback=recorded";
    let recorded = with(&settings, &[BOTH, BY_CLASS, fallback, &digits]);
    let mut run = lose_wide(&scene, "continued", &recorded, &teachers.wide);
    let (status, said) = (run.wait(), run.stderr());
    assert!(status.success(), "{said}");
    let part = "continuing with recorded soft targets";
    let mut lines = said.lines();
    let is_named = lines.any(|line| line.contains(part) && line.contains("teacher wide: "));
    assert!(is_named, "{said}");
    let student = fs::read(scene.path("continued/artifact/weights.safetensors")).unwrap();
    assert!(student == expected, "other bits");
    // The run that failed continues without the lost teacher.
    let (student, said) = scene.run("failed", &recorded);
    assert!(said.contains("resumes from step"), "{said}");
    assert!(student == expected, "other bits");
}
