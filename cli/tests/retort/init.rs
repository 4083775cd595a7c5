//! `retort init` and what its files start.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use common::digest::Sha256;
use test_support::{Process, built_beside};

use crate::distill::{Scene, text};

/// Starts a service with a ready file; returns it with the address of its gRPC port.
pub fn start(program: &str, folder: &Path, arguments: &[String]) -> (Process, String) {
    let ready_file = folder.join(format!("{program}.ready.json"));
    let mut command = Command::new(built_beside(env!("CARGO_BIN_EXE_retort"), program));
    command.arg("serve").args(arguments);
    for port in ["grpc", "metrics"] {
        command.arg(format!("--set={port}.listen=127.0.0.1:0"));
    }
    command.arg("--ready-file").arg(&ready_file);
    let mut process = Process::start(command);
    let addresses = process.ready(&ready_file);
    (process, addresses["grpc"].to_string())
}

#[test]
fn the_run_gives_the_bytes_of_distill() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", true);
    let written = scene.command("init", &photos, "files").output().unwrap();
    assert!(written.status.success(), "{}", text(&written));
    assert!(text(&written).contains("parameters"), "{}", text(&written));
    let files = scene.path("files");
    let readme = fs::read_to_string(files.join("README.md")).unwrap();
    for part in [
        "teacher-service serve --config",
        "retort run run.toml",
        "photos",
    ] {
        assert!(readme.contains(part), "{readme}");
    }

    let argument = |key: &str, path: &Path| format!("--{key}={}", path.display());
    let config = argument("config", &files.join("teacher-service.toml"));
    let (_teacher, teacher) = start("teacher-service", &scene.path(""), &[config]);
    let runs = argument("set=runs_folder", &scene.path("runs"));
    let allowed = format!("--set=allowed_folders=[{:?}]", photos.display().to_string());
    let (_trainer, trainer) = start("student-trainer", &scene.path(""), &[runs, allowed]);
    let run = Command::new(env!("CARGO_BIN_EXE_retort"))
        .arg("run")
        .arg(files.join("run.toml"))
        .args(["--trainer", &trainer])
        .args(["--set", &format!("teacher.endpoints=[\"{teacher}\"]")])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", text(&run));

    scene.distilled(&photos, "student", &[]);
    let model = |run: &str| {
        let file = scene.path(run).join("artifact/model.onnx");
        Sha256::of(&fs::read(file).unwrap())
    };
    assert_eq!(model("runs/run"), model("student/run"));
}

#[test]
fn data_without_labels_has_the_classes_of_the_teacher() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", false);
    let mut command = scene.command("init", &photos, "files");
    let written = command.args(["--ground", "#102030"]).output().unwrap();
    assert!(written.status.success(), "{}", text(&written));
    let run = fs::read_to_string(scene.path("files/run.toml")).unwrap();
    let run: toml::Table = run.parse().unwrap();
    assert_eq!(run["data"]["ground"].as_str(), Some("#102030"));
    let names = run["data"]["class_names"].as_array().unwrap();
    let names: Vec<_> = names.iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(names, ["trouser", "shirt", "pullover"]);
    assert_eq!(run["phases"].as_array().unwrap().len(), 1);
}

#[test]
fn files_are_replaced_only_by_force_and_flags_are_required_without_a_terminal() {
    let scene = Scene::new();
    let photos = scene.write_pictures("photos", true);
    let mut asks = Command::new(env!("CARGO_BIN_EXE_retort"));
    let asks = asks.arg("init").stdin(Stdio::null()).output().unwrap();
    assert_eq!(asks.status.code(), Some(64));
    assert!(
        text(&asks).contains("--teacher and --data"),
        "{}",
        text(&asks)
    );

    let run = scene.path("files/run.toml");
    fs::create_dir(scene.path("files")).unwrap();
    fs::write(&run, "mine").unwrap();
    let refused = scene.command("init", &photos, "files").output().unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    assert_eq!(fs::read_to_string(&run).unwrap(), "mine");
    let forced = scene
        .command("init", &photos, "files")
        .arg("--force")
        .output();
    assert!(forced.unwrap().status.success());
    assert_ne!(fs::read_to_string(&run).unwrap(), "mine");

    let wide = scene
        .command("init", &photos, "wide")
        .args(["--width", "99"])
        .output();
    let wide = text(&wide.unwrap());
    assert!(
        wide.contains("width") && !scene.path("wide").exists(),
        "{wide}"
    );
}
