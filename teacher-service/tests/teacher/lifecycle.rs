//! Starting and stopping a real process: bad configurations, bad artifacts, draining, health.

mod starting;

use std::{
    ffi::OsStr,
    net::TcpListener,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use crate::support::{
    BINARY, Process, SLOW, SMALL, Teacher, Trainer, fitting_open, start, u8_tensor, write_artifact,
};
use proto::teacher::v1::{
    stream_soft_targets_response::Message as Response, teacher_service_client::TeacherServiceClient,
};
use test_support::open_streams::OpenStreams;
use tonic::Code;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(BINARY)
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

fn serve(artifact: &Path, settings: &[&str]) -> (Option<i32>, String) {
    let artifact = artifact.to_str().unwrap();
    let mut arguments = vec!["serve", "--model", artifact];
    let free = ["grpc.listen=127.0.0.1:0", "metrics.listen=127.0.0.1:0"];
    for setting in free.iter().chain(settings) {
        arguments.extend(["--set", setting]);
    }
    run(&arguments)
}

/// Starts a teacher at an address that no other test receives after the teacher ended.
fn start_at_own_address(artifact: &Path, settings: &[&str]) -> Teacher {
    let address = test_support::unused_address();
    Teacher::start_at(Path::new(BINARY), artifact, &address, settings)
}

#[test]
fn every_config_error_is_listed_at_once() {
    let wrong = [
        "grpc.credit=0",
        "compute.cpu_isa=mmx",
        "grpc.listen=0.0.0.0:0",
        "typo=1",
    ];
    let settings = wrong.iter().flat_map(|setting| ["--set", setting]);
    let (code, text) = run(&["serve"].into_iter().chain(settings).collect::<Vec<_>>());
    assert_eq!(code, Some(64), "{text}");
    for key in [
        "artifact",
        "grpc.credit",
        "compute.cpu_isa",
        "grpc.listen",
        "typo",
    ] {
        assert!(text.contains(key), "{key} is not in: {text}");
    }
}

#[test]
fn odd_variables_and_paths_are_taken_as_they_are_or_refused_by_name() {
    let odd = OsStr::from_bytes(b"a\xa3b");
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join(odd);
    write_artifact(&artifact, SMALL, 1);
    let ready_file = folder.path().join("ready.json");
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--model").arg(&artifact);
    for setting in ["grpc.listen=127.0.0.1:0", "metrics.listen=127.0.0.1:0"] {
        command.args(["--set", setting]);
    }
    command.arg("--ready-file").arg(&ready_file);
    command.env("X", odd).env(odd, "x");
    Process::start(command).ready(&ready_file);

    let mut command = Command::new(BINARY);
    let refused = command
        .arg("serve")
        .env("RETORT_TEACHER__MODEL__PATH", odd)
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(
        said.contains("RETORT_TEACHER__MODEL__PATH: is not UTF-8"),
        "{said}"
    );
}

#[test]
fn a_bad_artifact_is_refused_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path();
    let weights = artifact.join("weights.safetensors");
    let model = artifact.join("model.toml");
    let refused = |named: &[&str]| {
        let (code, text) = serve(artifact, &[]);
        assert_eq!(code, Some(1), "{text}");
        for part in named {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    };
    refused(&["model.toml", "No such file"]);

    write_artifact(artifact, SMALL, 1);
    std::fs::remove_file(&weights).unwrap();
    refused(&["weights.safetensors", "No such file"]);

    write_artifact(artifact, SMALL, 1);
    let whole = std::fs::read(&weights).unwrap();
    for cut in [0, 7, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&weights, &whole[..cut]).unwrap();
        refused(&["weights.safetensors"]);
    }
    std::fs::write(&weights, whole).unwrap();
    let text = std::fs::read_to_string(&model).unwrap();
    std::fs::write(&model, text.replace("classes = 3", "classes = 4")).unwrap();
    refused(&["model.toml", "class_names"]);
    std::fs::write(
        &model,
        text.replace("preset = \"resnet\"", "preset = \"vgg\""),
    )
    .unwrap();
    refused(&["model.toml", "vgg"]);
    let newer = text.replace("format_version = 2", "format_version = 3");
    std::fs::write(&model, newer).unwrap();
    refused(&["model.toml", "format_version"]);
    std::fs::write(&model, text.replace("widths = [8, 16]", "widths = [8, 17]")).unwrap();
    refused(&["weights.safetensors", "shape"]);

    // Damaged weights with the right shapes.
    std::fs::write(&model, &text).unwrap();
    let digest = |bytes: &[u8]| common::digest::Sha256::of(bytes).to_string();
    let whole = std::fs::read(&weights).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut zeroed = whole.clone();
    zeroed[whole.len() - 256..].fill(0);
    for damaged in [flipped, zeroed] {
        std::fs::write(&weights, &damaged).unwrap();
        refused(&["weights.safetensors", &digest(&whole), &digest(&damaged)]);
    }
    std::fs::remove_file(&weights).unwrap();
    std::os::unix::fs::symlink("/nowhere/w", &weights).unwrap();
    refused(&[
        "weights.safetensors",
        "a link to /nowhere/w",
        "No such file",
    ]);
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["grpc.listen", "metrics.listen"] {
        let (code, text) = serve(folder.path(), &[&format!("{key}={address}")]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(key) && text.contains(&address), "{text}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let (code, text) = serve(folder.path(), &["compute.device=cuda:99"]);
    assert_eq!(code, Some(1), "{text}");
    for part in ["compute.device", "cuda:99"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_can_be_asked_and_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (model, weights) = write_artifact(folder.path(), SMALL, 1);
    let model_id = networks::model_id(&model.network, &weights).unwrap();
    let mut teacher = start_at_own_address(folder.path(), &["compute.precision=f32"]);
    let address = teacher.grpc.to_string();
    let (code, text) = run(&["healthcheck", &address]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(&["describe", &address]);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        &model_id.to_string(),
        "f32",
        "UINT8 [batch, 1, 8, 8]",
        &model.class_names.join(", "),
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let metrics = test_support::http_get(teacher.metrics, "/metrics");
    for metric in teacher_service::metrics::Metric::ALL {
        let name = metric.name();
        let counted_later = name.ends_with("_seconds");
        assert!(
            metrics.contains(name) || counted_later,
            "{name} is not in: {metrics}"
        );
    }

    teacher.process.signal("TERM");
    let status = teacher.process.wait();
    assert_eq!(status.code(), Some(0), "{}", teacher.process.stderr());
    for command in ["healthcheck", "describe"] {
        let (code, text) = run(&[command, &address]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&address), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sigterm_batches_in_flight_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SLOW, 1);
    let mut teacher = start(folder.path(), &["grpc.credit=6"]);
    let (mut trainer, credit) = Trainer::open(&teacher).await;
    for id in 0..u64::from(credit) {
        trainer.send_batch(id, u8_tensor([64, 1, 28, 28], 0));
    }
    // The first answer shows that the teacher has the stream's batches, or is receiving them.
    let mut answered = Vec::new();
    let mut draining = false;
    let mut stopping = false;
    let ended = loop {
        match trainer.next().await {
            Ok(Some(Response::SoftTargets(targets))) => answered.push(targets.id),
            Ok(Some(Response::Draining(_))) => {
                draining = true;
                trainer.finish();
            }
            ended => break ended,
        }
        if !stopping {
            stopping = true;
            assert!(answered.len() < credit as usize);
            teacher.process.signal("TERM");
        }
    };
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    assert!(draining, "the teacher did not send Draining");
    assert_eq!(answered, (0..u64::from(credit)).collect::<Vec<_>>());
    let status = teacher.process.wait();
    assert_eq!(status.code(), Some(0), "{}", teacher.process.stderr());
}

/// Streams without batches in flight do not delay the stop, although draining may take an hour.
#[tokio::test(flavor = "multi_thread")]
async fn on_sigterm_open_streams_without_work_end() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let settings = [
        "shutdown.drain_seconds=3600",
        "grpc.read_timeout_seconds=3600",
    ];
    let mut teacher = start(folder.path(), &settings);
    let never_opened = Trainer::silent(&teacher).await;
    let (mut idle, _) = Trainer::open(&teacher).await;
    let mut streams = OpenStreams::open(teacher.grpc, &[]).await;

    teacher.process.signal("TERM");
    let next = idle.next().await;
    assert!(matches!(next, Ok(Some(Response::Draining(_)))), "{next:?}");
    assert!(matches!(idle.next().await, Ok(None)));
    streams.until_ended().await;
    let status = teacher.process.wait();
    assert_eq!(status.code(), Some(0), "{}", teacher.process.stderr());
    drop((never_opened, streams));
}

/// A draining teacher accepts batches for another half a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_after_draining_in_time_is_answered_and_the_service_ends() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    for _ in 0..5 {
        let mut teacher = start(folder.path(), &[]);
        let (mut trainer, _) = Trainer::open(&teacher).await;
        let process = teacher.process.id();
        let signalled = tokio::task::spawn_blocking(move || test_support::signal(process, "TERM"));
        let next = trainer.next().await;
        assert!(matches!(next, Ok(Some(Response::Draining(_)))), "{next:?}");
        trainer.send_batch(1, u8_tensor([1, 1, 8, 8], 0));
        let answer = trainer.next().await;
        signalled.await.unwrap();
        assert_eq!(teacher.process.wait().code(), Some(0));
        match answer {
            Ok(Some(Response::SoftTargets(_))) => {
                assert!(matches!(trainer.next().await, Ok(None)));
                return;
            }
            // A slow machine delayed this process for longer than that: repeat.
            Ok(None) => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("the batch was too late five times");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SLOW, 1);
    let settings = ["grpc.credit=200", "shutdown.drain_seconds=0"];
    let mut teacher = start(folder.path(), &settings);
    let (mut trainer, credit) = Trainer::open(&teacher).await;
    for id in 0..u64::from(credit) {
        trainer.send_batch(id, u8_tensor([64, 1, 28, 28], 0));
    }
    assert!(matches!(
        trainer.next().await,
        Ok(Some(Response::SoftTargets(_)))
    ));
    let stopped = Instant::now();
    teacher.process.signal("TERM");
    let status = loop {
        match trainer.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(teacher.process.wait().code(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_numerics_give_another_identity() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let mut seen = Vec::new();
    let mut all_settings = vec![
        ["compute.precision=f32", "compute.cpu_isa=auto"],
        ["compute.precision=bf16", "compute.cpu_isa=auto"],
    ];
    // Without AVX-512, `auto` chooses AVX2, so the third case would equal the first.
    let has_wider = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    if has_wider {
        all_settings.push(["compute.precision=f32", "compute.cpu_isa=avx2"]);
    }
    for settings in all_settings {
        let mut opens = Vec::new();
        for _ in 0..2 {
            let teacher = start(folder.path(), &settings);
            opens.push(fitting_open(&teacher).await);
        }
        assert_eq!(
            opens[0], opens[1],
            "the same settings give the same identity"
        );
        seen.push(opens.remove(0));
    }
    for (index, open) in seen.iter().enumerate() {
        assert_eq!(open.model_id, seen[0].model_id);
        let numerics = crate::support::numerics(open);
        assert_eq!(
            numerics.descriptor.contains("onednn avx2"),
            index == 2 || !has_wider,
            "{numerics:?}"
        );
        for other in &seen[..index] {
            assert_ne!(numerics, crate::support::numerics(other));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teacher_that_is_away_names_its_address() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let teacher = start_at_own_address(folder.path(), &[]);
    let address = teacher.grpc.to_string();
    drop(teacher);
    let endpoint = server::grpc::endpoint(&address).unwrap();
    assert!(TeacherServiceClient::connect(endpoint).await.is_err());
    let (code, text) = run(&["describe", &address]);
    assert_eq!(code, Some(1));
    assert!(text.contains(&address), "{text}");
}

#[test]
fn it_continues_without_its_log_ends_on_signals_and_has_a_ready_file_while_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    write_artifact(folder.path(), SMALL, 1);
    let service = || {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--model").arg(folder.path());
        for setting in [
            "grpc.listen=127.0.0.1:0",
            "metrics.listen=127.0.0.1:0",
            "compute.device=cpu",
            "compute.threads=1",
        ] {
            command.args(["--set", setting]);
        }
        command
    };
    test_support::process_life::check(&service, "grpc.listen");
}
