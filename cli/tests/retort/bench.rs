//! `retort bench` starts `retort-bench`.

use std::{fs, path::Path, process::Command};

use test_support::built_beside;

const RETORT: &str = env!("CARGO_BIN_EXE_retort");

#[test]
fn arguments_reach_the_program_of_the_benchmarks() {
    built_beside(RETORT, "retort-bench");
    let run = |arguments: &[&str]| {
        let output = Command::new(RETORT).arg("bench").args(arguments).output();
        output.unwrap()
    };
    let help = String::from_utf8(run(&["stream", "--help"]).stdout).unwrap();
    assert!(help.contains("Usage: retort-bench stream"), "{help}");
    let wrong = run(&["--turns", "0"]);
    assert_eq!(wrong.status.code(), Some(64));
}

#[test]
fn an_error_says_how_to_build_the_program_of_the_benchmarks() {
    let folder = tempfile::tempdir().unwrap();
    let retort = folder.path().join("retort");
    fs::copy(Path::new(RETORT), &retort).unwrap();
    let output = Command::new(&retort).args(["bench", "stream"]).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let expected = format!("cannot start {}-bench: ", retort.display());
    assert!(text.contains(&expected), "{text}");
    assert!(
        text.contains("cargo build --release -p benchmarks"),
        "{text}"
    );
}
