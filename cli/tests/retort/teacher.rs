//! `retort teacher inspect` starts `teacher-service inspect`.

use std::process::Command;

use networks::{NetworkSpec, Weights, onnx};
use test_support::built_beside;

const RETORT: &str = env!("CARGO_BIN_EXE_retort");

#[test]
fn arguments_reach_the_teacher_service_and_its_exit_code_comes_back() {
    built_beside(RETORT, "teacher-service");
    let folder = tempfile::tempdir().unwrap();
    let spec = "input = [3, 8, 8]\nclasses = 3\npreset = \"cnn\"\nwidths = [8]";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let model = onnx::export(&spec, &Weights::initial(&spec, 3).unwrap()).unwrap();
    std::fs::write(folder.path().join("teacher.onnx"), model).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(RETORT);
        command
            .current_dir(folder.path())
            .args(["teacher", "inspect"])
            .args(arguments);
        let output = command.output().unwrap();
        let streams = [&output.stdout, &output.stderr];
        let text = streams
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .concat();
        (output.status.code(), text)
    };
    let (code, text) = run(&["--help"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Usage: teacher-service inspect"), "{text}");
    let (code, text) = run(&["teacher.onnx", "--set", "model.preprocessing.scale=byte"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("input:        `input` FP32 [batch, 3, 8, 8]"),
        "{text}"
    );
    let (code, text) = run(&["teacher.onnx", "--set", "model.preprocessing.scale=percent"]);
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("model.preprocessing.scale"), "{text}");
}
