//! Runs with the options of optimization: what they write, and what is refused.

use std::fs;

use serde_json::Value;

use super::{MOMENTUM, Scene, manifest, read};

/// No epoch improves by 90 %, so the phase ends after two epochs and keeps the first.
const EARLY: &str = "phases[0].early_stopping={ patience = 1, min_delta = 0.9 }";

#[test]
fn early_stopping_without_validation_samples_is_refused_before_training() {
    let scene = Scene::new();
    let said = scene.failure("run", &[EARLY, "data.validation_samples=0"]);
    for part in [
        "phases[0].early_stopping needs labelled validation samples",
        "set data.validation_samples",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn a_phase_that_ends_early_is_recorded_with_its_best_epoch() {
    let scene = Scene::new();
    let rate = "{ kind = \"constant\", learning_rate = 0.001 }";
    let file = scene.path("run.toml");
    let config = fs::read_to_string(&file).unwrap();
    let config = config.replacen(MOMENTUM, "{ kind = \"adamw\" }", 1);
    let config = config.replacen("{ kind = \"one_cycle\", max_learning_rate = 0.1 }", rate, 1);
    assert!(config.contains("adamw") && config.contains(rate));
    fs::write(file, config).unwrap();
    let options = [
        EARLY,
        "phases[0].epochs=5",
        "phases[0].accumulate=2",
        "phases[0].gradient_clip_norm=1.0",
        "phases[0].ema={ decay = 0.5 }",
    ];
    let run = scene.run("run", &options);
    let manifest = manifest(&run);
    let [first, second] = &manifest.phases[..] else {
        panic!("a run has two phases");
    };
    assert_eq!((first.best_epoch, second.best_epoch), (Some(1), None));
    assert_eq!(first.consumed_samples, 2 * 320);
    let again = scene.run("again", &options);
    for file in [
        "phases/0-supervised/weights.safetensors",
        "artifact/model.onnx",
    ] {
        assert!(read(&run, file) == read(&again, file), "{file} differs");
    }

    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str, phase: u64| {
        let events = events.iter();
        let chosen = events.filter(move |event| event["event"] == kind && event["phase"] == phase);
        chosen.cloned().collect::<Vec<_>>()
    };
    // 320 samples are 5 batches of 64, 3 optimizer steps of at most 2 batches.
    assert_eq!(of("phase_started", 0)[0]["steps_per_epoch"], 3);
    let epochs = of("epoch_finished", 0);
    assert_eq!(epochs.len(), 2);
    assert_eq!(
        epochs[0]["validation_accuracy"].as_f64(),
        first.validation_accuracy
    );
    // The second phase does not clip.
    for phase in [0, 1] {
        for progress in of("step_progress", phase) {
            let norm = progress["gradient_norm"].as_f64();
            assert!(norm.is_some_and(|norm| norm > 0.0), "{progress}");
        }
    }
    let notices = events.iter().filter_map(|event| event["text"].as_str());
    let ends = "phase 1 (supervised) ends after epoch 2 of 5 and keeps the weights of epoch 1";
    assert_eq!(notices.filter(|text| text.starts_with(ends)).count(), 1);
}

#[test]
fn the_gradients_of_more_steps_are_measured_without_another_student() {
    let scene = Scene::new();
    let seldom = scene.run("seldom", &[]);
    // Every checkpoint is reported.
    let often = scene.run("often", &["checkpoints.every_steps=1"]);
    let [seldom_measured, often_measured] = [&seldom, &often].map(|run| {
        let log = String::from_utf8(read(run, "metrics.jsonl")).unwrap();
        log.matches("\"gradient_norm\":").count()
    });
    // 320 samples are 5 batches of 64, in three epochs.
    assert_eq!((seldom_measured, often_measured), (3, 15));
    for file in ["artifact/weights.safetensors", "artifact/model.onnx"] {
        assert!(read(&seldom, file) == read(&often, file), "{file} differs");
    }
    let other = scene.run("other", &["seed=2"]);
    let file = "artifact/model.onnx";
    assert!(
        read(&seldom, file) != read(&other, file),
        "{file} is the same"
    );
}
