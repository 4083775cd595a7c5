//! `retort bench distill` and `retort bench stream`, with real services and little work.

use std::process::Command;

use serde_json::Value;

/// The one JSON object that `retort bench ARGUMENTS` prints.
fn figures(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_retort"))
        .args(["bench"])
        .args(arguments)
        .args(["--json", "--turns", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(figures: &Value, key: &str) -> f64 {
    let number = figures.pointer(key).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{key} is not in {figures}"))
}

#[test]
fn streaming_gives_its_three_figures() {
    let figures = figures(&["stream", "--seconds", "1", "--teachers", "1,2"]);
    for teachers in ["1", "2"] {
        // A teacher cannot be faster than the time that it waits; answers of just before may be
        // counted in so short a measurement.
        let share = number(&figures, &format!("/scaling/{teachers}"));
        assert!(0.0 < share && share < 2.0, "{figures}");
    }
    assert!(number(&figures, "/transport_ratio") > 0.0);
    assert!(number(&figures, "/limit_samples_per_second") > 10_000.0);
    for (classes, needed) in [("10", 40.0), ("1000", 4_000.0), ("21841", 87_364.0)] {
        let bytes = number(&figures, &format!("/bytes_per_sample/wire/f32/{classes}"));
        assert!(needed < bytes && bytes < needed + 1.0, "{figures}");
    }
}

#[test]
fn distilling_gives_its_ratios() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../.deps/fashion-mnist");
    let figures = figures(&[
        "distill",
        "--samples",
        "1024",
        "--epochs",
        "1",
        "--data",
        data,
    ]);
    for key in ["recorded_ratio", "live_ratio", "cpu_ratio"] {
        let ratio = number(&figures, &format!("/{key}"));
        assert!(0.05 < ratio && ratio < 20.0, "{key}: {figures}");
        assert_eq!(
            number(&figures, &format!("/details/{key}/median")),
            ratio,
            "{figures}"
        );
    }
    assert!(number(&figures, "/details/supervised_samples_per_second/minimum") > 0.0);
}
