//! Curves of interrupted runs in TensorBoard.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;
use test_support::event_files;

use super::scene::{EPOCHS, PHASES, Place, STEPS, Scene, events};

#[test]
fn tensorboard_shows_every_step_of_a_killed_run_once() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    for phase in 0..PHASES.len() {
        let mut process = scene.start("run", &[&teacher]);
        let step = EPOCHS * STEPS * 2 / 3;
        scene.wait_for("run", Place { phase, step }, &mut process);
        process.signal("KILL");
        process.wait();
    }
    // On a loaded machine, the last kill may come too late.
    if !scene.path("run/manifest.json").exists() {
        scene.finish("run", &[&teacher], &[]);
    }

    let folder = scene.path("run");
    let shown = event_files::read(&folder.join("tensorboard"));
    let scalars = &shown["scalars"];
    for (tag, event, key) in [
        ("loss/train", "step_progress", "loss"),
        ("learning_rate", "step_progress", "learning_rate"),
        ("accuracy/train", "step_progress", "train_accuracy"),
        ("gradient_norm", "step_progress", "gradient_norm"),
        ("loss/train_epoch", "epoch_finished", "train_loss"),
        (
            "accuracy/validation",
            "epoch_finished",
            "validation_accuracy",
        ),
    ] {
        let found: BTreeMap<u64, f64> = points(&scalars[tag]).collect();
        let logged = logged(&folder, event, key);
        assert_eq!(points(&scalars[tag]).count(), logged.len(), "{tag}");
        for (step, value) in logged {
            // Event files have 32 bits.
            assert_eq!(
                found.get(&step),
                Some(&f64::from(value as f32)),
                "{tag} {step}"
            );
        }
    }
    let histograms = shown["histograms"].as_object().unwrap();
    assert!(histograms.keys().all(|tag| tag.starts_with("weights/")));
    let epochs: Vec<u64> = (1..=EPOCHS * PHASES.len() as u64)
        .map(|it| it * STEPS)
        .collect();
    for (tag, histogram) in histograms {
        let steps: Vec<u64> = points(histogram).map(|(step, _)| step).collect();
        assert_eq!(steps, epochs, "{tag}");
    }
}

/// (step, value) of each point of a curve.
fn points(curve: &Value) -> impl Iterator<Item = (u64, f64)> {
    let points = curve.as_array().into_iter().flatten();
    points.map(|point| (point[0].as_u64().unwrap(), point[1].as_f64().unwrap()))
}

/// (step of the run, value) of a figure in all events of one kind.
fn logged(folder: &Path, event: &str, key: &str) -> Vec<(u64, f64)> {
    let step = |it: &Value| {
        let number = |key: &str| it[key].as_u64().unwrap();
        let epochs = number("phase") * EPOCHS + number("epoch");
        match event {
            "step_progress" => (epochs - 1) * STEPS + number("step"),
            _ => epochs * STEPS,
        }
    };
    let events = events(folder).into_iter().filter(|it| it["event"] == event);
    events
        .map(|it| (step(&it), it[key].as_f64().unwrap()))
        .collect()
}
