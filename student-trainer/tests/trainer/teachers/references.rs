//! Batches by reference: teachers that have the run's data get positions in it instead of pixels.

use test_support::{Teacher, eventually, write_idx};

use super::SIZE;
use crate::distillation::{Run, Scene, address, student};

/// Bytes of one image.
const PIXELS: f64 = 784.0;

/// A teacher with the data set in the folder `name`.
fn teacher_with(scene: &Scene, name: &str) -> Teacher {
    scene.teacher(&[&format!("data.path={}", scene.path(name).display())])
}

/// Samples and bytes that `run` has sent.
fn sent(run: &Run, sent_as: &str) -> [f64; 2] {
    let line = |what: &str| format!("retort_trainer_{what}_sent_total{{sent_as=\"{sent_as}\"}}");
    ["samples", "bytes"].map(|what| run.metric(&line(what)))
}

/// Runs `name` to its end; all its batches must be sent as `sent_as`, with so many bytes for each sample. Returns what
/// the run says, and its student.
fn run(
    scene: &Scene,
    name: &str,
    teacher: &Teacher,
    settings: &[&str],
    (sent_as, other): (&str, &str),
    bytes_fit: fn(f64) -> bool,
) -> (String, [Vec<u8>; 2]) {
    let run = scene.run(name, &[address(teacher)], settings);
    eventually("a sent batch", || {
        (sent(&run, sent_as)[0] > 0.0).then_some(())
    });
    // While the teacher stands still, so do the numbers.
    teacher.process.signal("STOP");
    eventually("bytes that fit", || {
        let [samples, bytes] = sent(&run, sent_as);
        bytes_fit(bytes / samples).then_some(())
    });
    assert_eq!(sent(&run, other), [0.0; 2]);
    teacher.process.signal("CONT");
    let output = run.succeed();
    (output, student(&scene.path(name)))
}

const BY_REFERENCE: (&str, &str) = ("references", "pixels");
const BY_PIXELS: (&str, &str) = ("pixels", "references");

#[test]
fn by_reference_and_by_pixels_the_student_is_the_same() {
    let scene = Scene::new(SIZE);
    let teacher = teacher_with(&scene, "data");
    let part = [
        "data.validation_samples=64",
        "data.train_samples=320",
        "phases[0].epochs=8",
    ];
    let views = ["soft_targets={ views = 2 }"];
    let augmented = ["data.augmentation.mixup={ alpha = 0.4 }"];
    for (name, settings) in [
        ("whole", &[][..]),
        ("part", &part[..]),
        ("views", &views[..]),
        ("augmented", &augmented[..]),
    ] {
        let pixels = [settings, &["teacher.batches=pixels"]].concat();
        let few = |bytes: f64| bytes > 0.0 && bytes < 64.0;
        let (output, by_reference) = run(&scene, name, &teacher, settings, BY_REFERENCE, few);
        assert!(output.contains("it gets references"), "{output}");
        let name = format!("{name} by pixels");
        let many = |bytes: f64| bytes >= PIXELS;
        let (output, by_pixels) = run(&scene, &name, &teacher, &pixels, BY_PIXELS, many);
        assert!(!output.contains("references"), "{output}");
        assert!(by_reference == by_pixels, "{name}: another student");
        let other = [settings, &["seed=2"]].concat();
        let name = format!("{name} with another seed");
        let (_, other) = run(&scene, &name, &teacher, &other, BY_REFERENCE, few);
        assert!(other != by_reference, "{name}: the same student");
    }
}

#[test]
fn references_are_split_as_their_pixels_would_be() {
    let scene = Scene::new(SIZE);
    let data = format!("data.path={}", scene.path("data").display());
    // 75 images: two parts of 64.
    let teacher = scene.teacher(&[&data, "grpc.max_message_bytes=60000"]);
    let settings = [
        "phases[0].batch_size=128",
        "phases[0].epochs=2",
        "teacher.encoding=sampled-8-t2",
    ];
    let run = |name: &str, more: &[&str]| {
        let before = teacher.answered();
        let settings = [&settings[..], more].concat();
        let output = scene.run(name, &[address(&teacher)], &settings).succeed();
        let parts = teacher.answered() - before;
        (output, parts, student(&scene.path(name)))
    };
    let (output, parts, by_reference) = run("references", &[]);
    assert!(output.contains("it gets references"), "{output}");
    assert_eq!(parts, (SIZE.steps * 32 / 128 * 2 * 2) as f64);
    let by_pixels = run("pixels", &["teacher.batches=pixels"]);
    assert_eq!(by_pixels.1, parts);
    assert!(by_pixels.2 == by_reference, "another student");
    let other = run("another seed", &["seed=2"]);
    assert!(other.2 != by_reference, "the same student");
}

#[test]
fn a_teacher_with_other_data_gets_pixels_and_both_kinds_train_the_same_student() {
    let scene = Scene::new(SIZE);
    write_idx(&scene.path("other data"), 40, [28, 28]);
    let other = teacher_with(&scene, "other data");
    let many = |bytes: f64| bytes >= PIXELS;
    let (output, alone) = run(&scene, "other", &other, &[], BY_PIXELS, many);
    let notice = format!("teacher {} has another data set", other.grpc);
    assert!(output.contains(&notice), "{output}");

    let same = teacher_with(&scene, "data");
    let before = other.answered();
    let endpoints = [address(&same), address(&other)];
    let output = scene.run("both", &endpoints, &[]).succeed();
    let notice = format!("teacher {} has the run's data", same.grpc);
    assert!(output.contains(&notice), "{output}");
    assert!(same.answered() > 0.0 && other.answered() > before);
    assert!(student(&scene.path("both")) == alone, "another student");
}
