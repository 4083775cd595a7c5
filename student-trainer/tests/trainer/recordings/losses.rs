//! Sums of losses on live and recorded soft targets.

use std::fs;

use super::scene::{Scene, encoded, endpoints};

const SUM: &str = "phases[0].loss=[{ kind = \"dkd\", weight = 0.5, temperature = 4, warm_up = 2 }, \
                   { kind = \"dist\", standardize = true }, { kind = \"cross_entropy\", label_smoothing = 0.1 }]";

#[test]
fn a_sum_of_terms_gives_the_same_student_live_and_recorded_and_logs_its_terms() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let (live, _) = scene.run("live", &[&endpoints(&teacher), SUM]);
    scene.record(&[&endpoints(&teacher)]);
    drop(teacher);
    let (recorded, _) = scene.run("recorded", &["soft_targets.mode=recorded", SUM]);
    assert!(live == recorded);
    let (other, _) = scene.run("other", &["soft_targets.mode=recorded"]);
    assert!(other != recorded);

    let metrics = fs::read_to_string(scene.path("live/metrics.jsonl")).unwrap();
    let events = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let epochs: Vec<serde_json::Value> = events
        .filter(|event: &serde_json::Value| event["event"] == "epoch_finished")
        .collect();
    // Five epochs with the sum, and one with `kd`, which has two terms.
    assert_eq!(epochs.len(), 6);
    for (epoch, kinds) in epochs
        .iter()
        .zip([&["dkd", "dist", "cross_entropy"][..]; 5])
    {
        let terms = epoch["terms"].as_array().unwrap();
        assert!(terms.iter().map(|term| &term["kind"]).eq(kinds), "{epoch}");
        let sum: f64 = terms
            .iter()
            .map(|term| term["loss"].as_f64().unwrap())
            .sum();
        let loss = epoch["train_loss"].as_f64().unwrap();
        assert!((sum - loss).abs() < 1e-4 * loss, "{epoch}");
    }
    assert_eq!(epochs[5]["terms"].as_array().unwrap().len(), 2);
}

#[test]
fn a_top_k_recording_is_refused_before_the_first_step_if_a_term_needs_all_logits() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    scene.record(&[&encoded(&teacher, "top-3")]);
    let error = scene.run_fails("run", &["soft_targets.mode=recorded", SUM]);
    for part in [
        "phases[0].loss[0] (dkd) needs the teacher's logits of all classes",
        "keeps 3 of 10 (top-3)",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let wttm = "phases[0].loss=[{ kind = \"wttm\", gamma = 0.5 }, { kind = \"cross_entropy\" }]";
    scene.run("wttm", &["soft_targets.mode=recorded", wttm]);
}
