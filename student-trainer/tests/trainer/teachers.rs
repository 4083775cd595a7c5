//! A run and its teachers as real processes: teachers that are lost, rejected, missing or late.

mod instances;
mod messages;
mod references;

use std::{fs, process::Command};

use crate::distillation::{Scene, Size, TEACHER, TEACHER_NETWORK, address, student};
use test_support::{Teacher, eventually, write_artifact};

const SIZE: Size = Size {
    steps: 16,
    epochs: 4,
    widths: [4, 8],
};

/// Returns both counts in "(answered 7 batches; 3 return to the queue)" of a lost teacher's notice.
fn account(output: &str, lost: &Teacher) -> (u64, u64) {
    let start = format!("teacher {} is unavailable", lost.grpc);
    let line = output.lines().find(|line| line.contains(&start));
    let line = line.unwrap_or_else(|| panic!("{start} is not in: {output}"));
    let (_, counts) = line.rsplit_once("(answered ").unwrap();
    let (answered, rest) = counts.split_once(" batches; ").unwrap();
    let (back, _) = rest.split_once(" return").unwrap();
    (answered.parse().unwrap(), back.parse().unwrap())
}

#[test]
fn a_killed_teacher_leaves_no_trace_in_the_student() {
    let scene = Scene::new(SIZE);
    let stays_address = test_support::unused_address();
    let start_other = || Teacher::start_at(&TEACHER, &scene.artifact(), &stays_address, &[]);
    let other = start_other();
    let killed = scene.teacher(&[]);
    let endpoints = [stays_address.clone(), address(&killed)];

    scene.run("undisturbed", &endpoints, &[]).succeed();
    let batches = (SIZE.steps * SIZE.epochs) as f64;
    // More than `batches`, if both teachers answered a hedged batch.
    assert!(other.answered() + killed.answered() >= batches);
    for teacher in [&other, &killed] {
        assert!(teacher.answered() > 0.0, "both teachers were used");
    }

    // The other teacher starts later, so that it cannot take over batches yet.
    drop(other);
    let patient = ["teacher.wait_timeout_seconds=600"];
    let disturbed = scene.run("disturbed", &endpoints, &patient);
    eventually("a batch trained on", || {
        (disturbed.metric("retort_trainer_samples_total") > 0.0).then_some(())
    });
    killed.process.signal("STOP");
    // The number of batches that are queued ahead of training.
    eventually("eight batches in flight", || {
        (disturbed.metric("retort_trainer_batches_in_flight") >= 8.0).then_some(())
    });
    killed.process.signal("KILL");
    let other = start_other();

    let folder = disturbed.folder.clone();
    let output = disturbed.succeed();
    let (answered, requeued) = account(&output, &killed);
    assert!(answered >= 1, "{output}");
    assert!(requeued >= 1, "{output}");
    assert!(
        student(&folder) == student(&scene.path("undisturbed")),
        "the student differs from that of an undisturbed run"
    );

    let endpoint = address(&other);
    scene.run("alone", &[&endpoint], &[]).succeed();
    assert!(
        student(&scene.path("alone")) == student(&folder),
        "one teacher, other bits"
    );
    scene.run("other seed", &[&endpoint], &["seed=2"]).succeed();
    for (other, first) in student(&scene.path("other seed"))
        .iter()
        .zip(student(&folder))
    {
        assert!(*other != first, "another seed gives the same bytes");
    }
}

#[test]
fn a_teacher_of_other_numerics_is_refused_and_both_are_named() {
    let scene = Scene::new(SIZE);
    let first = scene.teacher(&["compute.precision=f32"]);
    let mut others = vec![scene.teacher(&["compute.precision=bf16"])];
    // Without AVX-512, the first teacher has AVX2 too.
    if is_x86_feature_detected!("avx512f") {
        others.push(scene.teacher(&["compute.precision=f32", "compute.cpu_isa=avx2"]));
    }
    for (index, other) in others.iter().enumerate() {
        let endpoints = [address(&first), address(other)];
        let endpoints = [endpoints[0].as_str(), endpoints[1].as_str()];
        let name = format!("same {index}");
        let run = scene.run(&name, &endpoints, &[]);
        run.says(&format!("teacher {} is refused", other.grpc));
        let output = run.succeed();
        let notice = format!("teacher {} is refused: ", other.grpc);
        let refusal = output.lines().find(|line| line.contains(&notice)).unwrap();
        for named in [other.grpc, first.grpc].map(|address| numerics(&address.to_string())) {
            assert!(refusal.contains(&named), "{named} is not in: {refusal}");
        }
        assert!(refusal.contains(&address(&first)), "{refusal}");
        assert_eq!(other.answered(), 0.0, "{output}");
    }
    let mixed = [address(&first), address(&others[0])];
    let mixed: Vec<&str> = mixed.iter().map(String::as_str).collect();
    scene
        .run("any", &mixed, &["teacher.numerics=any"])
        .succeed();
    // Even if the first teacher's answers all arrived first, this one finishes its hedged batches.
    eventually("an answer of other numerics", || {
        (others[0].answered() > 0.0).then_some(())
    });
    let manifest = fs::read_to_string(scene.path("any").join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["bit_reproducible"], false);
}

/// Returns the numerics that a teacher reports.
fn numerics(address: &str) -> String {
    let output = Command::new(&*TEACHER)
        .args(["describe", address])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("numerics:"));
    line.unwrap().trim().to_owned()
}

#[test]
fn another_model_is_refused_and_both_are_named() {
    let scene = Scene::new(SIZE);
    let first = scene.teacher(&[]);
    let other_artifact = scene.path("other teacher");
    write_artifact(&other_artifact, TEACHER_NETWORK, 2);
    let other = Teacher::start(&TEACHER, &other_artifact, &[]);
    let endpoints = [address(&first), address(&other)];
    let output = scene
        .run(
            "run",
            &[&endpoints[0], &endpoints[1]],
            &["teacher.numerics=any"],
        )
        .succeed();
    let notice = format!("teacher {} is refused: it is model ", other.grpc);
    let refusal = output.lines().find(|line| line.contains(&notice));
    assert!(
        refusal.is_some_and(|line| line.contains(&address(&first))),
        "{output}"
    );
    assert_eq!(other.answered(), 0.0);
}

#[test]
fn a_teacher_that_does_not_fit_the_data_fails_the_run_at_once() {
    let scene = Scene::new(SIZE);
    let network = TEACHER_NETWORK.replace("classes = 10", "classes = 7");
    write_artifact(&scene.artifact(), &network, 1);
    let teacher = scene.teacher(&[]);
    let started = std::time::Instant::now();
    let settings = ["teacher.wait_timeout_seconds=600"];
    let error = scene.run("run", &[&address(&teacher)], &settings).fail();
    assert!(started.elapsed() < test_support::SOON);
    for part in ["7 classes", "10", &address(&teacher)] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

/// The trainer renders the images at the teacher's size, too.
#[test]
fn a_teacher_with_another_input_size_is_used() {
    let scene = Scene::new(SIZE);
    let network = TEACHER_NETWORK.replace("28, 28", "14, 14");
    write_artifact(&scene.artifact(), &network, 1);
    let teacher = scene.teacher(&[]);
    scene.run("run", &[&address(&teacher)], &[]).succeed();
    assert!(scene.path("run/artifact").exists());
}

#[test]
fn without_a_teacher_the_run_fails_and_names_the_endpoints() {
    let scene = Scene::new(SIZE);
    let unused = test_support::unused_address();
    let endpoints = [unused.as_str(), "no.such.host.invalid:1"];
    let error = scene
        .run("run", &endpoints, &["teacher.wait_timeout_seconds=1"])
        .fail();
    for endpoint in endpoints {
        assert!(error.contains(endpoint), "{endpoint} is not in: {error}");
    }
    assert!(
        !scene.path("run/artifact").exists(),
        "a partial artifact exists"
    );
}

#[test]
fn when_the_last_teacher_is_lost_the_run_waits_and_then_fails() {
    let scene = Scene::new(SIZE);
    let teacher = scene.teacher(&[]);
    let endpoint = address(&teacher);
    // Enough epochs that the run cannot end earlier.
    let settings = ["teacher.wait_timeout_seconds=3", "phases[0].epochs=1000"];
    let run = scene.run("run", &[&endpoint], &settings);
    eventually("an answer", || (teacher.answered() > 0.0).then_some(()));
    teacher.process.signal("KILL");
    run.says("no teacher is connected; training waits");
    let error = run.fail();
    assert!(
        error.contains("the teachers are gone, no answer for 3 s") && error.contains(&endpoint),
        "{error}"
    );
}

#[test]
fn a_teacher_that_joins_is_used_and_one_that_drains_is_not_missed() {
    let scene = Scene::new(SIZE);
    let first = scene.teacher(&[]);
    scene
        .run("alone", &[&address(&first)], &["phases[0].epochs=32"])
        .succeed();

    let second_address = test_support::unused_address();
    let endpoints = [address(&first), second_address.clone()];
    let before = first.answered();
    let run = scene.run(
        "run",
        &[&endpoints[0], &endpoints[1]],
        &["phases[0].epochs=32", "teacher.wait_timeout_seconds=600"],
    );
    run.says(&format!("teacher {second_address} is unavailable"));
    eventually("an answer of the first teacher", || {
        (first.answered() > before).then_some(())
    });
    // Suspended, so that the run cannot end before the other teacher has joined.
    first.process.signal("STOP");
    let mut first = first;
    let second = Teacher::start_at(&TEACHER, &scene.artifact(), &second_address, &[]);
    eventually("an answer of the teacher that joined", || {
        (second.answered() > 0.0).then_some(())
    });
    first.process.signal("CONT");
    // The pool may have dropped the suspended teacher.
    eventually("both teachers", || {
        (run.metric("retort_trainer_teachers") == 2.0).then_some(())
    });
    first.process.signal("TERM");
    assert_eq!(first.process.wait().code(), Some(0));
    let output = run.succeed();
    let notice = format!("teacher {} is shutting down", endpoints[0]);
    assert!(output.contains(&notice), "{output}");
    assert!(student(&scene.path("run")) == student(&scene.path("alone")));
}
