//! Access to the run service, the paths that submitted runs may name, and runs whose teachers require
//! credentials.

use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::Path, process::Command};

use proto::runs::v1::{ListRunsRequest, SubmitRunRequest, run_service_client::RunServiceClient};
use server::security::{Scope, client::Credentials};
use test_support::{
    Process, Teacher,
    certificates::Keys,
    refusals::{self, Guarded},
    run_toml::{CROSS_ENTROPY, PhaseToml, RunToml, SOFT_CROSS_ENTROPY},
    write_artifact, write_idx,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const TRAINER: &str = env!("CARGO_BIN_EXE_student-trainer");
const NETWORK: &str =
    "input = [1, 8, 8]\nclasses = 10\npreset = \"cnn\"\nwidths = [4]\nstrides = [2]";

struct Trainer {
    process: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Trainer {
    fn start(settings: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "secret"] {
            write_idx(&folder.path().join(name), 32, [8, 8]);
        }
        let ready_file = folder.path().join("ready.json");
        let mut command = Command::new(TRAINER);
        command.current_dir(folder.path()).arg("serve");
        command.arg("--ready-file").arg(&ready_file);
        let fixed = [
            "grpc.listen=127.0.0.1:0",
            "metrics.listen=127.0.0.1:0",
            "allowed_folders=[\"data\"]",
        ]
        .map(str::to_owned);
        for setting in fixed.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut process = Process::start(command);
        let address = process.ready(&ready_file)["grpc"];
        Self {
            process,
            address,
            folder,
        }
    }

    async fn submit(&self, settings: &str) -> Result<(), Status> {
        let client = RunServiceClient::connect(format!("http://{}", self.address));
        let request = SubmitRunRequest {
            overrides: Vec::new(),
            name: "run".to_owned(),
            config_toml: format!("{settings}\n{}", one_epoch(CROSS_ENTROPY)),
        };
        client.await.unwrap().submit_run(request).await.map(drop)
    }
}

impl Guarded for Trainer {
    const SCOPE: Scope = Scope::Runs;

    fn log(&self) -> String {
        self.process.stderr()
    }

    async fn call(&self, credentials: &Credentials) -> Result<(), Option<Status>> {
        let connected = credentials.connect(&self.address.to_string()).await;
        let mut client = RunServiceClient::new(connected.map_err(|_| None)?);
        client
            .list_runs(ListRunsRequest {})
            .await
            .map(drop)
            .map_err(Some)
    }
}

/// The configuration of one epoch of a tiny network.
fn one_epoch(loss: &str) -> String {
    let config = RunToml {
        keys: "threads = 1\nprecision = \"f32\"\nexport = { onnx = false }",
        network: NETWORK,
        phases: &[PhaseToml {
            batch_size: 8,
            loss,
            schedule: "{ kind = \"constant\", learning_rate = 0.01 }",
            ..PhaseToml::default()
        }],
        ..RunToml::default()
    };
    config.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_service_answers_those_who_may() {
    let keys = Keys::new();
    let trainer = Trainer::start(&refusals::settings(&keys, Trainer::SCOPE));
    refusals::refuses_all_but_good_callers(&trainer, &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_service_that_speaks_plain_text_says_so() {
    let keys = Keys::new();
    refusals::refuses_tls_on_a_plain_port(&Trainer::start(&[]), &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submitted_runs_name_files_below_the_allowed_folders_only() {
    let trainer = Trainer::start(&[]);
    let root = trainer.folder.path();
    fs::create_dir(root.join("data/linked")).unwrap();
    symlink(root.join("secret"), root.join("data/linked/link")).unwrap();
    fs::write(root.join("data/no-token"), "words").unwrap();
    let data = "data.path = \"data\"";
    let teacher =
        |more: &str| format!("{data}\nteacher = {{ endpoints = [\"127.0.0.1:1\"], {more} }}");
    let absolute = root.join("secret").display().to_string();
    for (settings, key) in [
        ("data.path = \"secret\"".to_owned(), "data.path"),
        (format!("data.path = \"{absolute}\""), "data.path"),
        ("data.path = \"data/../secret\"".to_owned(), "data.path"),
        ("data.path = \"data/linked/link\"".to_owned(), "data.path"),
        ("data.path = \"data/linked\"".to_owned(), "data.path"),
        (
            "data.path = \"data/new/../../secret\"".to_owned(),
            "data.path",
        ),
        (
            teacher("token_file = \"/etc/passwd\""),
            "teacher.token_file",
        ),
        (teacher("tls = { ca = \"/etc/ssl\" }"), "teacher.tls.ca"),
        (
            format!("{data}\nsoft_targets = {{ folder = \"secret\" }}"),
            "soft_targets.folder",
        ),
        (
            format!("{data}\nsoft_targets = {{ folder = \"s3://bucket/targets\" }}"),
            "soft_targets.folder",
        ),
    ] {
        let refused = trainer.submit(&settings).await.expect_err(&settings);
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.reason, "FOLDER_NOT_ALLOWED");
        let words = refused.message();
        assert!(words.starts_with(&format!("{key} = ")), "{words}");
        // The message does not say whether the file exists.
        assert!(!words.contains("No such file"), "{words}");
    }
    // The service reads an allowed file, but does not repeat its text.
    let settings = teacher("token_file = \"data/no-token\"");
    let refused = trainer.submit(&settings).await.expect_err("no token");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(!refused.message().contains("words"), "{refused:?}");
    trainer.submit(data).await.unwrap();
}

/// A tiny distillation over mutual TLS with a token, and the error of a run without them.
#[test]
fn a_run_shows_its_teachers_a_certificate_and_a_token() {
    let keys = Keys::new();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_idx(&root.join("data"), 64, [8, 8]);
    write_artifact(&root.join("teacher"), NETWORK, 1);
    let settings = refusals::settings(&keys, Scope::SoftTargets);
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let program = test_support::built_beside(TRAINER, "teacher-service");
    let teacher = Teacher::start(&program, &root.join("teacher"), &settings);
    let file = |name: &str| keys.path(name).display().to_string();
    let credentials = format!(
        "token_file = \"{}\"\n[teacher.tls]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        file("good.token"),
        file("ca.pem"),
        file("client.pem"),
        file("client.key"),
    );
    let run = |name: &str, credentials: &str, patience: u64| {
        // A name and not an address, because the certificate contains the name.
        let endpoint = format!("localhost:{}", teacher.grpc.port());
        let config = format!(
            "data.path = \"{}\"\n{}\n[teacher]\nwait_timeout_seconds = {patience}\n\
             endpoints = [\"{endpoint}\"]\n{credentials}",
            root.join("data").display(),
            one_epoch(SOFT_CROSS_ENTROPY),
        );
        let file = root.join(format!("{name}.toml"));
        fs::write(&file, config).unwrap();
        train(&file, &root.join(name))
    };
    let (succeeded, output) = run("good", &credentials, 60);
    assert!(succeeded, "{output}");
    assert!(teacher.process.stderr().contains("port secured"));
    let (succeeded, output) = run("no-token", &credentials.replace("good", "other-scope"), 3);
    assert!(
        !succeeded && output.contains("does not allow this call"),
        "{output}"
    );
    let (succeeded, output) = run("no-tls", "", 3);
    assert!(!succeeded && output.contains("localhost"), "{output}");
    let recorded = fs::read_to_string(root.join("good/config.toml")).unwrap();
    let token = fs::read_to_string(keys.path("good.token")).unwrap();
    assert!(recorded.contains("good.token") && !recorded.contains(&token));
}

fn train(config: &Path, output: &Path) -> (bool, String) {
    let mut command = Command::new(TRAINER);
    command.arg("run").arg(config).arg("--output").arg(output);
    let mut process = Process::start(command);
    let status = process.wait();
    (status.success(), process.stderr())
}
