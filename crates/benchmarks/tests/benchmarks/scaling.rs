//! Tests `retort-bench scaling`.

use std::{fs, process::Command};

use serde_json::Value;
use test_support::Bucket;

use crate::support::{FASHION_MNIST, PROGRAM, exclusively, figures, figures_with, number};

#[test]
fn what_is_measured_is_computed_with_and_can_be_computed_with_again() {
    let _exclusive = exclusively();
    let parts = "teachers,bytes,recording,workers,arithmetic";
    let amount = ["--seconds", "1", "--samples", "1024", "--epochs", "1"];
    let numbers = [
        "--teachers",
        "1,2",
        "--recorders",
        "1,2",
        "--processes",
        "1,2",
    ];
    let network = ["--networks", "demo-student", "--data", FASHION_MNIST];
    let simulated = ["--simulated-workers", "16"];
    let parts = ["scaling", "--parts", parts];
    let measured = figures(&[&parts[..], &amount, &numbers, &network, &simulated].concat());
    let of = |key: &str| number(&measured, key);
    for key in [
        "/teachers/forward/f32/median",
        "/teachers/pool/median",
        "/teachers/teachers_per_trainer_core",
        "/teachers/share_of_linear/2/median",
        "/recording/process_cpu_us",
        "/recording/processes/2/share_of_linear/median",
        "/recording/processes/2/share_of_possible/median",
        "/recording/processes/2/cores_used/median",
        "/recording/processes/2/busy_share/median",
        "/workers/networks/demo-student/processes/2/samples_per_second/median",
        "/workers/networks/demo-student/processes/2/share_of_possible/median",
        "/workers/networks/demo-student/processes/2/loopback_bytes_per_step/median",
    ] {
        assert!(0.0 < of(key), "{key}: {measured}");
    }
    let pixels = of("/bytes/pixels/1x28x28");
    assert!(784.0 < pixels && pixels < 785.0, "{measured}");
    // A row of 39,154 gradients, 272 statistics and 3 sums; two rows of each process reach the other one.
    let exchanged = |processes: usize| {
        let processes = format!("/workers/networks/demo-student/processes/{processes}");
        of(&format!("{processes}/exchanged_bytes_per_step"))
    };
    assert_eq!(exchanged(1), 0.0);
    assert_eq!(exchanged(2), 4.0 * 4.0 * f64::from(39_154 + 272 + 3));
    let share = of("/workers/networks/demo-student/simulated/16/network_share");
    assert!(0.0 < share && share < 1.0, "{measured}");
    let served = of("/teachers/served/median");
    let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-9;
    let answered = of("/arithmetic/limits/0/samples_per_second/teachers");
    assert!(is_near(answered, 10.0 * served), "{measured}");
    let live = of("/arithmetic/live_core_hours");
    assert!(is_near(live, 30e6 / served / 3_600.0), "{measured}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scaling.json");
    fs::write(&file, measured.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let again = ["--parts", "arithmetic", "--measured", file];
    let again = figures(&[&["scaling", "--link-gbit", "1"][..], &again].concat());
    let carried = "/arithmetic/crossings/1/pixels_samples_per_second";
    assert!(
        is_near(10.0 * number(&again, carried), of(carried)),
        "{again}"
    );
    assert!(is_near(number(&again, "/teachers/served/median"), served));
}

#[test]
fn processes_record_into_a_bucket_and_leave_it_empty() {
    let _exclusive = exclusively();
    let bucket = Bucket::start();
    let url = bucket.url("targets");
    let parts = ["scaling", "--parts", "recording", "--seconds", "1"];
    let processes = ["--recorders", "1,2", "--recorded-batch", "0"];
    let place = ["--data", FASHION_MNIST, "--store", url.as_str()];
    let arguments = [&parts[..], &processes, &place].concat();
    let figures = figures_with(&arguments, &bucket.environment());
    let shown = figures.pointer("/recording/bucket");
    assert_eq!(shown.and_then(Value::as_str), Some(url.as_str()));
    for processes in ["1", "2"] {
        let of = |key: &str| number(&figures, &format!("/recording/processes/{processes}/{key}"));
        // The benchmark fails if the bucket has fewer shards than it counted.
        assert!(0.0 < of("samples_per_second/median"), "{figures}");
        let busy = of("busy_share/median");
        assert!(0.0 < busy && busy <= 1.0, "{figures}");
    }
    let left = bucket.objects("targets");
    assert!(left.is_empty(), "{:?}", left.keys());
}

#[test]
fn predictions_are_those_of_the_service() {
    let _exclusive = exclusively();
    let figures = figures(&["scaling", "--parts", "predictions", "--seconds", "0.3"]);
    for callers in ["1", "8", "64"] {
        let of = |key: &str| number(&figures, &format!("/predictions/callers/{callers}/{key}"));
        let seconds = of("processor_seconds_per_million");
        assert!(seconds > 0.0, "{figures}");
        let hours = of("core_hours_per_million");
        assert!((hours * 3_600.0 / seconds - 1.0).abs() < 1e-9, "{figures}");
    }
}

#[test]
fn what_cannot_be_measured_or_computed_is_an_error_with_a_way_out() {
    let _exclusive = exclusively();
    for (arguments, part) in [
        (
            ["--parts", "arithmetic"],
            "name a file that has them with --measured",
        ),
        (
            ["--processes", "3"],
            "3 processes cannot share the 4 batches of a step",
        ),
        (["--measured", "no-such-file.json"], "no-such-file.json"),
    ] {
        let output = Command::new(PROGRAM)
            .arg("scaling")
            .args(arguments)
            .output();
        let output = output.unwrap();
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{messages}");
        assert!(messages.contains(part), "{messages}");
        assert!(output.stdout.is_empty());
    }
}
