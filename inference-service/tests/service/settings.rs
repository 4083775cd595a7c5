//! Settings from environment variables and arguments, including unusual ones.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use proto::inference::{ModelConfigRequest, ModelInferRequest, ModelInferResponse};
use tonic::{Request, Status};

use crate::support::{
    Artifact, BINARY, MODEL, Service, ServiceOptions, infer_request, publish, upload,
};

const NOT_UTF8: &[u8] = b"a\xa3b";

/// The error message of a program that must not start.
fn refused(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().expect("the program starts");
    let said = String::from_utf8(stderr).expect("it is UTF-8");
    assert_eq!(status.code(), Some(64), "{said}");
    said
}

fn serve() -> Command {
    let mut command = Command::new(BINARY);
    command.arg("serve");
    command
}

#[test]
fn unrelated_variables_are_ignored_and_invalid_ones_are_rejected_by_name() {
    let service = Service::start(&ServiceOptions {
        environment: &[
            (OsStr::new("X"), OsStr::from_bytes(NOT_UTF8)),
            (OsStr::from_bytes(NOT_UTF8), OsStr::new("x")),
            (OsStr::new("RUST_LOG"), OsStr::from_bytes(NOT_UTF8)),
        ],
        ..ServiceOptions::default()
    });
    service.log_once(|log| log.contains("serving"));

    let name = "RETORT_INFERENCE__STORE";
    let said = refused(serve().env(name, OsStr::from_bytes(NOT_UTF8)));
    assert!(
        said.contains("RETORT_INFERENCE__STORE: is not UTF-8"),
        "{said}"
    );
    let setting = OsStr::from_bytes(b"store=a\xa3b");
    let said = refused(serve().arg("--set").arg(setting));
    assert!(said.contains("--set store=a\\xa3b: is not UTF-8"), "{said}");
    let said = refused(serve().env("RETORT_INFERENCE__MODELS__A__MAX_BATCH", "4"));
    assert!(said.contains("models.A.max_batch"), "{said}");
}

#[test]
fn the_path_of_the_store_is_used_verbatim() {
    for typed in [NOT_UTF8, b"20240601", b"true", b"[a]", b"\"quoted\""] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Path::new(OsStr::from_bytes(typed));
        let _service = Service::start(&ServiceOptions {
            store: Some(store),
            folder: Some(folder.path()),
            ..ServiceOptions::default()
        });
        let made = fs::read_dir(folder.path()).expect("it is there");
        let made: Vec<_> = made
            .map(|entry| entry.expect("it can be read").file_name())
            .collect();
        assert_eq!(made, [store.as_os_str()]);
    }
}

#[test]
fn a_path_in_a_variable_or_a_setting_is_text_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let variable = [(OsStr::new("RETORT_INFERENCE__STORE"), OsStr::new("1e3"))];
    for (environment, set, made) in [
        (&variable[..], &[][..], "1e3"),
        (&[], &["store=007"], "007"),
    ] {
        let _service = Service::start(&ServiceOptions {
            store: Some(Path::new("")),
            folder: Some(folder.path()),
            environment,
            set,
        });
        assert!(folder.path().join(made).is_dir(), "{made}");
    }
}

#[tokio::test]
async fn models_with_capitals_and_dots_are_configured_by_name() {
    let service = Service::start(&ServiceOptions {
        environment: &[
            (
                OsStr::new("RETORT_INFERENCE__MODELS__ResNet8__MAX_BATCH_SIZE"),
                OsStr::new("4"),
            ),
            (
                OsStr::new("RETORT_INFERENCE__MODELS__v1.0__MAX_BATCH_SIZE"),
                OsStr::new("5"),
            ),
        ],
        set: &["models.\"v2.0\".max_batch_size=6"],
        ..ServiceOptions::default()
    });
    // No model is stored yet.
    for name in ["ResNet8", "v1.0", "v2.0"] {
        let table = format!("[models.{name}] is configured, but no model of this name is stored");
        service.log_once(|log| log.contains(&table));
    }
    for (name, size) in [("ResNet8", 4), ("v1.0", 5), ("v2.0", 6), ("resnet8", 64)] {
        let artifact = Artifact::constant(1);
        let mut header = artifact.header();
        header.model_name = name.to_owned();
        service
            .publish(upload(header, &artifact.onnx))
            .await
            .expect("it is published");
        let request = ModelConfigRequest {
            name: name.to_owned(),
            version: String::new(),
        };
        let config = service.inference().await.model_config(request).await;
        let config = config.expect("a configuration").into_inner().config;
        assert_eq!(config.expect("it is filled").max_batch_size, size, "{name}");
    }
}

async fn infer_within(
    service: &Service,
    time: Duration,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, Status> {
    let mut request = Request::new(request);
    request.set_timeout(time);
    let response = service.inference().await.model_infer(request).await?;
    Ok(response.into_inner())
}

#[tokio::test]
async fn the_queue_delay_does_not_outlast_a_callers_deadline() {
    let service = Service::start(&ServiceOptions {
        set: &["batching.max_queue_delay_microseconds=1000000"],
        ..ServiceOptions::default()
    });
    publish(&service, &Artifact::constant(1)).await;
    // Each deadline is earlier than the delay. A busy machine may be too slow for one attempt, but not for all.
    let mut answer = None;
    for _ in 0..50 {
        let request = infer_request(1).0;
        answer = Some(infer_within(&service, Duration::from_millis(900), request).await);
        if let Some(Ok(_)) = answer {
            break;
        }
    }
    let answer = answer.expect("it was asked").expect("one is in time");
    assert_eq!(answer.model_name, MODEL);
}

#[test]
fn a_default_timeout_below_the_queue_delay_is_rejected_at_the_start() {
    let said = refused(serve().args([
        "--set",
        "batching.max_queue_delay_microseconds=500000",
        "--set",
        "batching.default_timeout_microseconds=200000",
    ]));
    for key in [
        "batching.default_timeout_microseconds = 200000",
        "batching.max_queue_delay_microseconds = 500000",
    ] {
        assert!(said.contains(key), "{said}");
    }
}
