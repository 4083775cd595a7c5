//! `retort bench serve` against real services.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::ready_file;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const STOPPED: Duration = Duration::from_secs(2);

/// A program that stands beside `retort`.
fn program(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_BIN_EXE_retort")).with_file_name(name))
}

fn number(figures: &Value, key: &str) -> f64 {
    let number = figures.pointer(key).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{key} is not in {figures}"))
}

/// An inference service with a model of random weights. It is killed when this is dropped.
struct Service {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, ready) = (folder.path().join("models"), folder.path().join("ready"));
        let made = program("inference-service")
            .args(["bench", "store", "--network", "demo-student"])
            .args(["--model", "model", "--output"])
            .arg(&store)
            .status();
        assert!(made.unwrap().success());
        let mut command = program("inference-service");
        command.arg("serve").arg("--store").arg(&store);
        for port in ["grpc", "admin", "http", "metrics"] {
            command.args(["--set", &format!("{port}.listen=127.0.0.1:0")]);
        }
        command.arg("--ready-file").arg(&ready);
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        let mut service = Self {
            process,
            address: String::new(),
            _folder: folder,
        };
        let began = Instant::now();
        service.address = loop {
            if let Some(addresses) = ready_file::read(&ready).unwrap() {
                break addresses["grpc"].to_string();
            }
            assert!(service.process.try_wait().unwrap().is_none(), "it ended");
            assert!(began.elapsed() < Duration::from_secs(60), "not ready");
            thread::sleep(Duration::from_millis(5));
        };
        service
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_service_is_compared_with_onnx_runtime_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_retort"))
        .args(["bench", "serve", "--json", "--turns", "1"])
        .args(["--seconds", "0.3", "--networks", "demo-student"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in [
        "throughput_ratio",
        "p50_overhead_ratio",
        "half_load_p99_over_p50",
    ] {
        let of_network = number(&figures, &format!("/networks/demo-student/{key}/median"));
        assert_eq!(number(&figures, &format!("/{key}")), of_network);
        assert!(0.0 < of_network && of_network.is_finite(), "{figures}");
    }
    for key in ["ready_ms/median", "resident_mb", "program_mb"] {
        assert!(number(&figures, &format!("/footprint/{key}")) > 0.0);
    }
}

#[test]
fn an_open_loop_counts_calls_that_a_stopped_server_kept_waiting() {
    let service = Service::start();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_retort"))
        .args(["bench", "serve", "--json", "--turns", "1", "--callers", "1"])
        .args(["--url", &service.address, "--model", "model"])
        .args(["--seconds", "4", "--rate", "200"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(bench.stderr.take().unwrap()).lines();
    let begun = said.any(|line| line.unwrap().starts_with("open loop"));
    assert!(begun, "the open loop did not begin");
    service.signal(Signal::STOP);
    thread::sleep(STOPPED);
    service.signal(Signal::CONT);
    let output = bench.wait_with_output().unwrap();
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    // At least 1.5 s of the window, more than a third of its calls: of the slowest tenth each waited
    // for longer than a second. Who measured from when a call was sent, with a caller for each
    // connection, would have seen only the few calls that were under way.
    let open_loop = |key: &str| number(&figures, &format!("/open_loop/{key}/median"));
    assert!(open_loop("p99_us") > 1_000_000.0, "{figures}");
    let closed = number(&figures, "/callers/0/p99_us/median");
    assert!(closed < open_loop("p99_us"), "{figures}");
    assert!(open_loop("throughput") > 150.0, "{figures}");
}
