//! `retort student suggest` with ONNX Runtime.

use std::process::Command;

use networks::{NetworkSpec, cost};

use crate::distill::{Scene, text};

/// The networks that it proposes, and everything that it prints.
fn suggested(arguments: &[&str]) -> (Vec<NetworkSpec>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_retort"))
        .args(["student", "suggest"])
        .args(arguments)
        .output()
        .unwrap();
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    let lines = printed
        .lines()
        .filter(|line| line.starts_with("network = "));
    let specs = lines.map(|line| {
        let table: toml::Table = line.parse().unwrap();
        table["network"].clone().try_into().unwrap()
    });
    (specs.collect(), printed)
}

#[test]
fn every_proposed_network_is_within_the_budget_and_fills_it() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", true);
    let data = [
        "--data",
        photos.to_str().unwrap(),
        "--size",
        "32",
        "--max-params",
        "100k",
    ];
    let (specs, printed) = suggested(&data);
    assert!(specs.len() >= 4, "{printed}");
    for spec in &specs {
        assert_eq!(
            (spec.classes, spec.input.dimensions()),
            (3, vec![1, 32, 32])
        );
        let parameters = cost(spec).unwrap().parameters;
        assert!(
            (60_000..=100_000).contains(&parameters),
            "{parameters}: {printed}"
        );
    }
    // The smallest MobileNetV2 has 1280 features before its head.
    assert!(printed.contains("mobilenet_v2"), "{printed}");
    assert!(printed.contains("µs"), "{printed}");

    let rows = ["--input", "30", "--classes", "2", "--max-macs", "5k"];
    let (specs, printed) = suggested(&rows);
    assert!(!specs.is_empty(), "{printed}");
    assert!(
        specs
            .iter()
            .all(|spec| cost(spec).unwrap().multiply_adds <= 5_000)
    );
}

#[test]
fn a_budget_of_time_limits_the_size() {
    let of = |microseconds: &str| {
        let (specs, printed) = suggested(&[
            "--input",
            "1x28x28",
            "--classes",
            "10",
            "--max-params",
            "1M",
            "--max-latency-us",
            microseconds,
        ]);
        let largest = specs
            .iter()
            .map(|spec| cost(spec).unwrap().multiply_adds)
            .max();
        (largest.unwrap(), printed)
    };
    let (small, _) = of("100");
    let (large, printed) = of("20000");
    assert!(small < large, "{small} {large}: {printed}");
}

#[test]
fn a_budget_that_nothing_meets_and_missing_flags_are_errors() {
    for (arguments, expected) in [
        (
            &["--input", "3x64x64", "--classes", "9", "--max-params", "10"][..],
            "raise it",
        ),
        (&["--input", "3x64x64", "--max-params", "10k"], "--classes"),
        (&["--input", "3x64x64", "--classes", "9"], "--max-params"),
        (&["--classes", "9", "--max-params", "10k"], "--data"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
        let output = command
            .args(["student", "suggest"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", text(&output));
        assert!(text(&output).contains(expected), "{}", text(&output));
    }
}
