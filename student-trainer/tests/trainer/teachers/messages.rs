//! Batches whose requests or answers are larger than a teacher's messages.

use super::SIZE;
use crate::distillation::{Scene, address, student};

/// 100,352 bytes of pixels.
const BATCH: &str = "phases[0].batch_size=128";

#[test]
fn a_batch_that_does_not_fit_a_message_is_split_and_leaves_no_trace() {
    let scene = Scene::new(SIZE);
    let large = scene.teacher(&[]);
    // 76 images: two parts of 64.
    let small = scene.teacher(&["grpc.max_message_bytes=60000", "grpc.credit=1"]);
    let settings = [BATCH, "phases[0].epochs=2"];
    for (name, teacher) in [("whole", &large), ("split", &small)] {
        scene.run(name, &[address(teacher)], &settings).succeed();
    }
    let batches = (SIZE.steps * 32 / 128 * 2) as f64;
    assert_eq!(large.answered(), batches);
    assert_eq!(small.answered(), 2.0 * batches);
    assert!(student(&scene.path("split")) == student(&scene.path("whole")));

    let both = [address(&large), address(&small)];
    scene.run("both", &both, &settings).succeed();
    assert!(student(&scene.path("both")) == student(&scene.path("whole")));
}

#[test]
fn the_parts_of_a_batch_draw_what_the_whole_batch_draws() {
    let scene = Scene::new(SIZE);
    let large = scene.teacher(&[]);
    let small = scene.teacher(&["grpc.max_message_bytes=60000", "grpc.credit=1"]);
    let run = |name: &str, teacher, encoding: &str| {
        // Every epoch has other views, and so other draws.
        let encoding = format!("teacher.encoding={encoding}");
        let settings = [BATCH, "phases[0].epochs=2", &encoding];
        scene.run(name, &[address(teacher)], &settings).succeed();
        student(&scene.path(name))
    };
    let whole = run("whole", &large, "sampled-8-t2");
    assert!(run("split", &small, "sampled-8-t2") == whole);
    assert_eq!(small.answered(), 2.0 * large.answered());
    assert!(run("more draws", &small, "sampled-9-t2") != whole);
}

#[test]
fn a_batch_whose_parts_would_be_small_is_refused_before_the_first_step() {
    let scene = Scene::new(SIZE);
    // 51 images.
    let teacher = scene.teacher(&["grpc.max_message_bytes=40000"]);
    let run = scene.run("run", &[address(&teacher)], &[BATCH]);
    let error = run.fail();
    for part in [
        &address(&teacher),
        "grpc.max_message_bytes is 40000",
        "at most 50 images",
        "phases[0].batch_size = 128 needs messages of 50304 bytes",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(teacher.answered(), 0.0);
    assert!(!scene.path("run/phases").exists());
}
