//! Runs on classes that teachers draw.

use super::scene::{Scene, encoded};

/// The temperature of the losses.
const SAMPLED: &str = "sampled-6-t2";

/// Without augmentation, every view shows the same pixels, and only the draws differ.
const NO_AUGMENTATION: [&str; 2] = [
    "data.augmentation.pad=0",
    "data.augmentation.horizontal_flip=false",
];
const OTHER_SEED: &str = "soft_targets.view_seed=2";

#[test]
fn any_teacher_and_any_recording_draw_the_same_classes_and_another_seed_draws_others() {
    let scene = Scene::new();
    // Full precision, because the test compares all bits.
    let [first, second] = [(); 2].map(|()| scene.teacher_with("f32"));
    let run = |name: &str, settings: &[&str]| {
        let settings = [&NO_AUGMENTATION[..], settings].concat();
        scene.run(name, &settings).0
    };
    let from = encoded(&first, SAMPLED);
    let from = from.as_str();
    let live = run("live", &[from]);
    let (one, other) = (first.grpc, second.grpc);
    let both =
        format!("teacher={{ endpoints = [\"{one}\", \"{other}\"], encoding = \"{SAMPLED}\" }}");
    assert!(run("both teachers", &[&both]) == live);
    scene.record(&[&NO_AUGMENTATION[..], &[from]].concat());
    let recorded = "soft_targets.mode=recorded";
    assert!(run("recorded", &[recorded]) == live);
    // Draws depend on neither the run's seed nor the batches of the recorder.
    let batches = "phases[0].batch_size=17";
    let [live_in_other_batches, recorded_in_other_batches] = [
        run("live in other batches", &[from, "seed=2", batches]),
        run("recorded in other batches", &[recorded, "seed=2", batches]),
    ];
    assert!(live_in_other_batches == recorded_in_other_batches);
    assert!(live_in_other_batches != live);

    // Negative controls: the seed of the views decides nothing but the draws.
    assert!(run("other draws", &[from, OTHER_SEED]) != live);
    assert!(run("more draws", &[&encoded(&first, "sampled-7-t2")]) != live);
    let dense = encoded(&first, "f32");
    assert!(run("dense", &[&dense]) == run("dense, other seed", &[&dense, OTHER_SEED]));
}

#[test]
fn a_sampled_recording_is_refused_before_the_first_step_if_a_term_needs_more() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    scene.record(&[&encoded(&teacher, SAMPLED)]);
    for (name, setting, parts) in [
        (
            "temperature",
            "phases[0].loss.temperature=4",
            [
                "phases[0].loss (soft_cross_entropy) needs classes drawn at its temperature, 4",
                "draws at temperature 2 (sampled-6-t2); record with teacher.encoding = \"sampled-6-t4\"",
            ],
        ),
        (
            "wttm",
            "phases[1].loss=[{ kind = \"wttm\", gamma = 0.5 }]",
            [
                "phases[1].loss[0] (wttm) needs the teacher's logits, but",
                "has drawn classes and no logits (sampled-6-t2); record with teacher.encoding = \"f32\", \"f16\" or",
            ],
        ),
    ] {
        let error = scene.run_fails(name, &["soft_targets.mode=recorded", setting]);
        for part in parts {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        assert!(!scene.path(name).join("phases").exists());
    }
}
