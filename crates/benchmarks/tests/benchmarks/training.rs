//! Tests `retort-bench train` with a script in place of PyTorch.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::support::{FASHION_MNIST, PROGRAM, exclusively, figures, number};

/// A script that prints `parameters` and fixed speeds, and the folder that holds it.
fn peer(parameters: u64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peer");
    let figures = serde_json::json!({
        "torch": "2.11.0",
        "parameters": parameters,
        "samples_per_second": { "f32": 1.0, "bf16": 2.0 },
        "compiled": null,
        "compile_error": null,
    });
    let script = format!("#!/bin/sh\n[ \"$1\" = --install ] || echo '{figures}'\n");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, file)
}

fn arguments(peer: &str) -> Vec<&str> {
    let network = ["--networks", "demo-student", "--threads", "1"];
    let rest = ["--epochs", "1", "--data", FASHION_MNIST, "--peer", peer];
    [&["train"][..], &network, &rest].concat()
}

#[test]
fn training_is_compared_with_the_fastest_variant() {
    let _exclusive = exclusively();
    let (_folder, peer) = peer(39_154);
    let figures = figures(&arguments(peer.to_str().unwrap()));
    let of = |key: &str| number(&figures, &format!("/networks/demo-student/1/{key}"));
    let speed = of("samples_per_second/median");
    assert_eq!(of("ratio/median"), speed / 2.0, "{figures}");
    assert!((number(&figures, "/ratio") * 2.0 / speed - 1.0).abs() < 1e-9);
    let fastest = figures.pointer("/networks/demo-student/1/fastest").unwrap();
    assert_eq!(fastest, "bf16", "{figures}");
}

#[test]
fn another_network_is_an_error() {
    let _exclusive = exclusively();
    let (_folder, peer) = peer(39_155);
    let arguments = arguments(peer.to_str().unwrap());
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(
        messages.contains("39155") && messages.contains("39154"),
        "{messages}"
    );
}
