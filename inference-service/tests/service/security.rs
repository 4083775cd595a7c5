//! Certificates and tokens at every port.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use test_support::certificates::Keys;
use test_support::refusals::{self, Guarded};

use proto::{
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
    publish::v1::{
        ActivateVersionRequest, ListVersionsRequest,
        publisher_service_client::PublisherServiceClient,
    },
};
use server::security::{
    Scope,
    client::{Channel, Credentials},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    clients::{folder_of, python, rust_example},
    support::{
        Artifact, Connection, MODEL, PATIENCE, Response, Service, ServiceOptions, infer_request,
        repository, run_to_the_end, wait_until,
    },
};

pub fn start(settings: &[String]) -> Service {
    let set: Vec<_> = settings.iter().map(String::as_str).collect();
    Service::start(&ServiceOptions {
        set: &set,
        ..ServiceOptions::default()
    })
}

/// A connection; `None` if it is rejected.
pub async fn channel(
    service: &Service,
    port: &str,
    credentials: &Credentials,
) -> Result<Channel, Option<Status>> {
    let connected = credentials.connect(&service.address(port)).await;
    connected.map_err(|_| None)
}

/// The gRPC port.
pub struct Predictions(pub Service);

impl Guarded for Predictions {
    const SCOPE: Scope = Scope::Predict;

    fn log(&self) -> String {
        self.0.log()
    }

    async fn call(&self, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(&self.0, "grpc", credentials).await?;
        let mut client = GrpcInferenceServiceClient::new(channel);
        let live = client.server_live(proto::inference::ServerLiveRequest {});
        live.await.map(drop).map_err(Some)
    }
}

/// The admin port.
struct Admin(Service);

impl Guarded for Admin {
    const SCOPE: Scope = Scope::Admin;

    fn log(&self) -> String {
        self.0.log()
    }

    async fn call(&self, credentials: &Credentials) -> Result<(), Option<Status>> {
        let channel = channel(&self.0, "admin", credentials).await?;
        let mut client = PublisherServiceClient::new(channel);
        let list = client.list_versions(ListVersionsRequest::default());
        list.await.map(drop).map_err(Some)
    }
}

#[tokio::test]
async fn predictions_require_credentials() {
    let keys = Keys::new();
    let service = Predictions(start(&refusals::settings(&keys, Predictions::SCOPE)));
    refusals::refuses_all_but_good_callers(&service, &keys).await;
    let plain = Predictions(start(&[]));
    refusals::refuses_tls_on_a_plain_port(&plain, &keys).await;
}

#[tokio::test]
async fn versions_require_credentials() {
    let keys = Keys::new();
    let service = Admin(start(&refusals::settings(&keys, Admin::SCOPE)));
    refusals::refuses_all_but_good_callers(&service, &keys).await;
    let plain = Admin(start(&[]));
    refusals::refuses_tls_on_a_plain_port(&plain, &keys).await;
}

/// The responses over HTTP to `/v2/models/{m}` and to a prediction, with an authorization header.
fn over_http(service: &Service, authorization: Option<&str>) -> [Response; 2] {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.map(|value| ("authorization", value)));
    let ask = |line: &str, body: &[u8]| {
        Connection::to(&service.address("http")).call(line, &headers, body)
    };
    [
        ask(&format!("GET /v2/models/{MODEL}"), b""),
        ask(&format!("POST /v2/models/{MODEL}/infer"), b"{}"),
    ]
}

#[test]
fn http_requires_credentials() {
    let keys = Keys::new();
    let [web, publisher] = [("web", Scope::Predict), ("publisher", Scope::Publish)]
        .map(|(name, scope)| format!("Bearer {}", keys.token(name, scope).reveal()));
    let service = start(&[keys.tokens_setting()]);
    for (authorization, status, reason) in [
        (None, 401, "TOKEN_MISSING"),
        (Some("Basic d2ViOndlYg=="), 401, "TOKEN_MISSING"),
        (Some("Bearer wrong-and-secret"), 401, "TOKEN_UNKNOWN"),
        (Some(publisher.as_str()), 403, "SCOPE_MISSING"),
        // Admitted; there is no such model.
        (Some(web.as_str()), 404, "MODEL_NOT_FOUND"),
    ] {
        for response in over_http(&service, authorization) {
            assert_eq!(response.status, status, "{authorization:?}: {response:?}");
            assert_eq!(response.refusal().1, reason, "{authorization:?}");
            // RFC 6750, section 3: the response to missing credentials names the scheme.
            let challenge = response.header("www-authenticate");
            let challenge = challenge.map(|challenge| challenge.split(' ').next());
            let expected = (status == 401).then_some(Some("Bearer"));
            assert_eq!(challenge, expected, "{authorization:?}");
        }
    }
    let log = service.log();
    for secret in [
        "Bearer wrong-and-secret",
        "Basic d2ViOndlYg",
        &web,
        &publisher,
    ] {
        let (_, secret) = secret.split_once(' ').expect("a scheme and a secret");
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn publishing_and_activating_are_different_rights() {
    let keys = Keys::new();
    for (name, scope) in [("publisher", Scope::Publish), ("operator", Scope::Admin)] {
        keys.token(name, scope);
    }
    let service = start(&[keys.tokens_setting()]);
    let client = async |token| {
        let credentials = keys.plain_client(Some(token));
        let channel = credentials.connect(&service.address("admin")).await;
        PublisherServiceClient::new(channel.expect("it connects"))
    };
    let publish = async |token| {
        let upload = tokio_stream::iter(Artifact::new(1).upload());
        client(token).await.publish(upload).await
    };
    let activate = async |token| {
        let request = ActivateVersionRequest {
            model_name: MODEL.to_owned(),
            version: 1,
        };
        client(token).await.activate_version(request).await
    };
    let refused = publish("operator").await.expect_err("it may not publish");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(publish("publisher").await.is_ok());
    let refused = activate("publisher").await.expect_err("it may not choose");
    let info = refused.get_details_error_info().expect("a reason is given");
    assert_eq!(info.reason, "SCOPE_MISSING");
    assert!(activate("operator").await.is_ok());
}

/// tritonclient over TLS with a token, and a scrape of the metrics.
#[tokio::test]
async fn public_clients_reach_a_guarded_service() {
    let keys = Keys::new();
    keys.token("web", Scope::Predict);
    keys.token("publisher", Scope::Publish);
    keys.token("prometheus", Scope::Metrics);
    let mut settings = keys.tls_settings();
    settings.push(keys.tokens_setting());
    let service = start(&settings);
    let credentials = keys.client("ca", None, Some("publisher"));
    let channel = credentials.connect(&service.address("admin")).await;
    let artifact = Artifact::new(1);
    PublisherServiceClient::new(channel.expect("it connects"))
        .publish(tokio_stream::iter(artifact.upload()))
        .await
        .expect("it is published");

    let script = repository().join("inference-service/tests/service/guarded_client.py");
    let output = python()
        .arg(script)
        .args([service.address("grpc"), service.address("metrics")])
        .args(["ca.pem", "web.token", "prometheus.token"].map(|name| keys.path(name)))
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("all as expected"), "{text}");

    let folder = folder_of(&artifact);
    let mut in_python = python();
    in_python.arg(repository().join("examples/python/predict.py"));
    for mut example in [in_python, Command::new(rust_example())] {
        example.args(["--model", MODEL, "--url", &service.address("grpc")]);
        example.arg("--artifact").arg(folder.path());
        example.arg("--ca").arg(keys.path("ca.pem"));
        let refused = example.output().expect("it starts");
        assert!(!refused.status.success(), "it needs a token");
        example.arg("--token-file").arg(keys.path("web.token"));
        let output = example.output().expect("it starts");
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test]
async fn tokens_and_certificates_are_reloaded_while_the_service_runs() {
    let keys = Keys::new();
    let old = keys.token("old", Scope::Predict);
    let mut settings = keys.tls_settings();
    settings.push(keys.tokens_setting());
    let service = Predictions(start(&settings));
    let call = async |ca, token| service.call(&keys.client(ca, None, Some(token))).await;
    assert!(call("ca", "old").await.is_ok());

    keys.token("new", Scope::Predict);
    server::security::tokens_file::Tokens::revoke(&keys.tokens_file(), "old").expect("it is there");
    for (from, to) in [("foreign.pem", "server.pem"), ("foreign.key", "server.key")] {
        let bytes = std::fs::read(keys.path(from)).expect("it is there");
        common::atomic_file::write(&keys.path(to), &bytes).expect("it is written");
    }
    // Each port reloads its files independently, possibly between two writes, so the log does not identify the
    // port or the state.
    let began = Instant::now();
    let refused = loop {
        let (new, old) = (call("foreign-ca", "new"), call("foreign-ca", "old"));
        if let (Ok(_), Err(Some(refused))) = (new.await, old.await) {
            break refused;
        }
        assert!(began.elapsed() < PATIENCE, "{}", service.0.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(refused.code(), Code::Unauthenticated);
    wait_until(|| {
        let log = service.0.log();
        ["tokens", "certificates"]
            .iter()
            .all(|what| log.contains(&format!("reloaded after a change what=\"{what}\"")))
    });
    assert!(
        call("ca", "new").await.is_err(),
        "the old certificate is replaced"
    );
    assert!(!service.0.log().contains(old.reveal()));
}

/// Every unusable file is reported before any port is bound.
#[test]
fn unusable_files_are_reported_at_once_with_exit_code_64() {
    let keys = Keys::new();
    let set = |key: &str, file: &Path| format!("{key}={}", file.display());
    let settings = [
        set("grpc.tls.certificate", &keys.path("missing.pem")),
        set("grpc.tls.key", &keys.path("ca.pem")),
        set("grpc.tls.client_ca", &keys.path("server.key")),
        set("auth.tokens_file", &keys.path("server.pem")),
    ];
    let arguments = settings.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<_> = ["serve"].into_iter().chain(arguments).collect();
    let output = run_to_the_end(&arguments);
    assert_eq!(output.status.code(), Some(64), "{}", output.stderr);
    for named in [
        "missing.pem",
        "ca.pem",
        "server.key",
        "server.pem",
        "4 problems",
    ] {
        assert!(output.stderr.contains(named), "{}", output.stderr);
    }
}

#[tokio::test]
async fn requests_over_tls_get_the_same_answers() {
    let keys = Keys::new();
    let settings = refusals::settings(&keys, Scope::Predict);
    keys.token("publisher", Scope::Publish);
    let service = start(&settings);
    let artifact = Artifact::new(1);
    let publisher = keys.client("ca", Some("client"), Some("publisher"));
    let channel = channel(&service, "admin", &publisher)
        .await
        .expect("it connects");
    PublisherServiceClient::new(channel)
        .publish(tokio_stream::iter(artifact.upload()))
        .await
        .expect("it is published");
    let (request, values) = infer_request(3);
    let connected = refusals::good(&keys)
        .connect(&service.address("grpc"))
        .await;
    let response = GrpcInferenceServiceClient::new(connected.expect("it connects"))
        .model_infer(request)
        .await
        .expect("it answers")
        .into_inner();
    crate::support::assert_close(&response.raw_output_contents[0], &artifact.logits(&values));
}
