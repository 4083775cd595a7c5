//! A teacher that answers and stops while its artifact is still loading.

use std::{net::TcpListener, path::Path, process::Command};

use common::process_environment::TENSOR_SETTINGS;
use test_support::{held_file::HeldFile, wrapper::on_one_cpu};
use test_support::{http_get, unused_address};

use super::run;
use crate::support::{BINARY, Process, SMALL, eventually, write_artifact};

/// Starts a teacher whose model cannot be opened yet. Returns its addresses `[gRPC, metrics]`.
fn load(model: &Path, ready_file: &Path) -> (Process, [String; 2]) {
    let addresses = [unused_address(), unused_address()];
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--model").arg(model);
    for (name, _) in TENSOR_SETTINGS {
        command.env_remove(name);
    }
    for (key, address) in ["grpc", "metrics"].iter().zip(&addresses) {
        command.args(["--set", &format!("{key}.listen={address}")]);
    }
    command.arg("--ready-file").arg(ready_file);
    let process = Process::start(command);
    eventually("an answer to a health check", || {
        let (code, text) = run(&["healthcheck", &addresses[0]]);
        assert_eq!(code, Some(1), "{text}");
        text.contains("NOT_SERVING").then_some(())
    });
    (process, addresses)
}

#[test]
fn a_loading_teacher_answers_that_it_does_not_serve_yet() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("artifact");
    write_artifact(&artifact, SMALL, 1);
    let held = HeldFile::hold(&artifact.join("weights.safetensors"));
    let ready_file = folder.path().join("ready.json");
    let (mut process, [grpc, metrics]) = load(&artifact, &ready_file);
    let (code, text) = run(&["describe", &grpc]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("still loading"), "{text}");
    let metrics = http_get(metrics.parse().unwrap(), "/metrics");
    assert!(metrics.contains("retort_teacher_streams"), "{metrics}");
    eventually("progress in the log", || {
        let log = process.stderr();
        log.contains("the teacher is still being loaded")
            .then_some(())
    });
    assert!(!ready_file.exists());

    drop(held);
    process.ready(&ready_file);
    for command in ["healthcheck", "describe"] {
        let (code, text) = run(&[command, &grpc]);
        assert_eq!(code, Some(0), "{text}");
    }
}

#[test]
fn a_loading_teacher_stops_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("artifact");
    write_artifact(&artifact, SMALL, 1);
    let _held = HeldFile::hold(&artifact.join("weights.safetensors"));
    let (mut process, _) = load(&artifact, &folder.path().join("ready.json"));
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
}

#[test]
fn only_a_teacher_that_computes_here_gets_the_settings_for_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("artifact");
    write_artifact(&artifact, SMALL, 1);
    let _held = HeldFile::hold(&artifact.join("weights.safetensors"));
    // An inference server that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!("grpc://{}/rows", silent.local_addr().unwrap());
    for (model, computes_here) in [(artifact.as_path(), true), (Path::new(&remote), false)] {
        let (process, _) = load(model, &folder.path().join("ready.json"));
        let environment = std::fs::read(format!("/proc/{}/environ", process.id())).unwrap();
        let environment = String::from_utf8_lossy(&environment);
        for (name, value) in TENSOR_SETTINGS {
            let setting = format!("{name}={value}");
            let is_set = environment.split('\0').any(|variable| variable == setting);
            assert_eq!(is_set, computes_here, "{setting} for {}", model.display());
        }
    }
}

#[test]
fn more_threads_than_cpus_are_reported_and_as_many_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("artifact");
    write_artifact(&artifact, SMALL, 1);
    let warning = "compute.threads = 2, but this process may use 1 CPU (";
    for (threads, is_reported) in [("2", true), ("1", false), ("0", false)] {
        let ready_file = folder.path().join(threads);
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--model").arg(&artifact);
        command.arg("--ready-file").arg(&ready_file);
        for setting in [
            "grpc.listen=127.0.0.1:0",
            "metrics.listen=127.0.0.1:0",
            "compute.device=cpu",
            &format!("compute.threads={threads}"),
        ] {
            command.args(["--set", setting]);
        }
        let mut process = Process::start(on_one_cpu(&command));
        process.ready(&ready_file);
        // It is logged after the warning.
        eventually("a line in the log", || {
            process.stderr().contains("teacher loaded").then_some(())
        });
        let log = process.stderr();
        assert_eq!(log.contains(warning), is_reported, "{threads}: {log}");
        assert_eq!(log.contains("this process may use"), is_reported, "{log}");
    }
}
