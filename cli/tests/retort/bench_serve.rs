//! `retort bench serve` against real services.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::Service;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const STOPPED: Duration = Duration::from_secs(2);

fn number(figures: &Value, key: &str) -> f64 {
    let number = figures.pointer(key).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{key} is not in {figures}"))
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
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let signal = |signal| kill_process(Pid::from_child(&service.process), signal).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_retort"))
        .args(["bench", "serve", "--json", "--turns", "1", "--callers", "1"])
        .args(["--url", &service.address("grpc"), "--model", "model"])
        .args(["--seconds", "4", "--rate", "200"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(bench.stderr.take().unwrap()).lines();
    let begun = said.any(|line| line.unwrap().starts_with("open loop"));
    assert!(begun, "the open loop did not begin");
    signal(Signal::STOP);
    thread::sleep(STOPPED);
    signal(Signal::CONT);
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
