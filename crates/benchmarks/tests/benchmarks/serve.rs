//! Tests `retort-bench serve`.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use test_support::InferenceService;

use crate::support::{PROGRAM, exclusively, figures, number};

const STOPPED: Duration = Duration::from_secs(2);

#[test]
fn the_service_is_compared_with_onnx_runtime_itself() {
    let _exclusive = exclusively();
    let network = ["--networks", "demo-student"];
    let figures = figures(&[&["serve", "--seconds", "0.3"][..], &network].concat());
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
    let _exclusive = exclusively();
    let folder = tempfile::tempdir().unwrap();
    let service = InferenceService::start(PROGRAM, folder.path());
    let mut bench = Command::new(PROGRAM)
        .args(["serve", "--json", "--turns", "1", "--callers", "1"])
        .args(["--url", &service.address("grpc"), "--model", "model"])
        .args(["--seconds", "4", "--rate", "200"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut messages = BufReader::new(bench.stderr.take().unwrap()).lines();
    let begun = messages.any(|line| line.unwrap().starts_with("open loop"));
    assert!(begun, "the open loop did not start");
    service.process.signal("STOP");
    thread::sleep(STOPPED);
    service.process.signal("CONT");
    let output = bench.wait_with_output().unwrap();
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The server was stopped for at least 1.5 s of the window, which is more than a third of its calls:
    // each of the slowest tenth waited for more than a second. A measurement from the time at which
    // each call was sent, with one caller per connection, would show only the few calls in flight.
    let open_loop = |key: &str| number(&figures, &format!("/open_loop/{key}/median"));
    assert!(open_loop("p99_us") > 1_000_000.0, "{figures}");
    let closed = number(&figures, "/callers/0/p99_us/median");
    assert!(closed < open_loop("p99_us"), "{figures}");
    assert!(open_loop("throughput") > 150.0, "{figures}");
}
