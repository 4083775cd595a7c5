//! `retort serve` as a process.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use image::GrayImage;
use test_support::{Process, built_beside, eventually, http_get};

use crate::distill::text;

/// Writes a model with random weights for gray images of 28 pixels; returns the folder of its files.
fn write_model(folder: &Path, name: &str) -> PathBuf {
    let store = folder.join("store");
    let written = Command::new(built_beside(env!("CARGO_BIN_EXE_retort"), "retort-bench"))
        .args([
            "store",
            "--network",
            "demo-student",
            "--model",
            "m",
            "--output",
        ])
        .arg(&store)
        .status();
    assert!(written.unwrap().success());
    let artifact = folder.join(name).join("run/artifact");
    fs::create_dir_all(artifact.parent().unwrap()).unwrap();
    fs::rename(store.join("m/1"), &artifact).unwrap();
    fs::remove_dir_all(store).unwrap();
    artifact
}

/// A running `retort serve` and what it printed.
struct Serve {
    process: Process,
    printed: String,
}

impl Serve {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
        command.arg("serve").arg(folder).args(arguments);
        let output = tempfile::NamedTempFile::new().unwrap();
        let stdout = File::options().append(true).open(output.path()).unwrap();
        let mut process = Process::start_with_output(command, stdout.into());
        let printed = eventually("the commands of `retort serve`", || {
            assert!(process.is_running(), "{}", process.stderr());
            let printed = fs::read_to_string(output.path()).unwrap();
            printed.contains("Ctrl-C stops").then_some(printed)
        });
        Self { process, printed }
    }

    /// Stops the command as Ctrl-C does.
    fn stop(&mut self) {
        self.process.signal("TERM");
        assert!(self.process.wait().success(), "{}", self.process.stderr());
    }

    /// The address after `label`.
    fn address(&self, label: &str) -> SocketAddr {
        let mut lines = self.printed.lines().map(str::trim);
        let line = lines.find_map(|line| line.strip_prefix(label)).unwrap();
        let address = line.trim().trim_start_matches("http://");
        address.parse().unwrap()
    }
}

fn refused(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
    command
        .arg("serve")
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_student_is_served_with_its_page_until_the_command_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), "student");
    let mut serve = Serve::start(
        &folder.path().join("student"),
        &["--port", "0", "--demo-page"],
    );
    let http = serve.address("HTTP");
    assert!(http_get(http, "/").starts_with("<!doctype html>"));
    let metadata = http_get(http, "/v2/models/student");
    assert!(metadata.contains("class_names"), "{metadata}");

    // The command that it prints.
    let picture = folder.path().join("photo.jpg");
    GrayImage::from_pixel(50, 40, image::Luma([77]))
        .save(&picture)
        .unwrap();
    let mut lines = serve.printed.lines().map(str::trim);
    let predict = lines
        .find_map(|line| line.strip_prefix("retort predict "))
        .unwrap();
    let arguments = predict.replace("photo.jpg", picture.to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_retort"));
    let predicted = command
        .arg("predict")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(predicted.status.success(), "{}", text(&predicted));
    assert!(
        text(&predicted).contains("photo.jpg: "),
        "{}",
        text(&predicted)
    );

    serve.stop();
}

#[test]
fn every_student_of_a_folder_is_served_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), "small");
    write_model(folder.path(), "large");
    fs::create_dir(folder.path().join("photos")).unwrap();
    let mut serve = Serve::start(folder.path(), &["--port", "0"]);
    let http = serve.address("HTTP");
    for name in ["small", "large"] {
        assert!(http_get(http, &format!("/v2/models/{name}")).contains(name));
    }
    serve.stop();
}

#[test]
fn what_cannot_be_served_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = refused(folder.path(), &["--port", "0"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing).contains("model.onnx"), "{}", text(&nothing));

    let artifact = write_model(folder.path(), "student");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let taken = refused(folder.path(), &["--port", &port]);
    assert!(
        text(&taken).contains(&port) && text(&taken).contains("--port 0"),
        "{}",
        text(&taken)
    );

    let model = artifact.join("model.onnx");
    let mut bytes = fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&model, &bytes).unwrap();
    let damaged = text(&refused(folder.path(), &["--port", "0"]));
    assert!(damaged.contains("model.onnx is damaged"), "{damaged}");
    fs::write(&model, &bytes[..10]).unwrap();
    let truncated = text(&refused(folder.path(), &["--port", "0"]));
    assert!(truncated.contains("it has 10 bytes"), "{truncated}");
}
