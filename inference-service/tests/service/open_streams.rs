//! A stop with open streams and connections takes only as long as the requests in flight.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use futures::StreamExt;
use proto::{inference::ServerLiveRequest, publish::v1::PublishRequest};
use test_support::open_streams::{OpenStreams, next_status, watch};
use tokio::time::timeout;
use tokio_stream::pending;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

use crate::support::{
    Artifact, Connection, MODEL, PATIENCE, Service, ServiceOptions, infer_request, publish,
    wait_until,
};

/// Longer than any test waits.
const LONG_DRAIN: &str = "shutdown.drain_seconds=3600";

#[tokio::test]
async fn open_streams_and_connections_do_not_delay_the_stop_and_requests_are_answered() {
    let options = ServiceOptions {
        set: &[
            LONG_DRAIN,
            // Requests wait for a batch that does not fill.
            "batching.max_queue_delay_microseconds=1000000",
            "grpc.read_timeout_seconds=3600",
            "http.read_timeout_seconds=3600",
        ],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    publish(&service, &Artifact::new(1)).await;

    let services = ["inference.GRPCInferenceService"];
    let mut open = Vec::new();
    for port in ["grpc", "admin"] {
        open.push(OpenStreams::open(service.socket(port), &services).await);
    }
    let mut stream = service.inference().await;
    let requests = tokio_stream::once(infer_request(1).0).chain(pending());
    let answers = stream.model_stream_infer(requests).await;
    let mut answers = answers.expect("it streams").into_inner();

    // An incomplete upload, message, request and head, and idle connections.
    let upload = Artifact::new(2).upload();
    let half: Vec<PublishRequest> = upload[..1].to_vec();
    let mut publisher = service.publisher().await;
    let half_upload = tokio::spawn(async move {
        let half = tokio_stream::iter(half).chain(pending());
        publisher.publish(half).await
    });
    let mut idle = service.inference().await;
    let live = idle.server_live(ServerLiveRequest {}).await;
    live.expect("it lives");
    let mut http = Vec::new();
    for (port, bytes) in [
        ("http", &b""[..]),
        ("http", b"GET /v2/health/li"),
        ("metrics", b""),
        ("metrics", b"GET /metrics HTTP/1.1\r\n"),
    ] {
        let client = TcpStream::connect(service.address(port)).expect("the port is open");
        (&client).write_all(bytes).expect("it is sent");
        http.push(client);
    }
    let mut kept_alive = Connection::to(&service.address("http"));
    assert_eq!(kept_alive.call("GET /v2", &[], b"").status, 200);
    let mut half_body = TcpStream::connect(service.address("http")).expect("the port is open");
    let head = format!(
        "POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: t\r\ncontent-length: 99\r\n\r\n{{"
    );
    half_body.write_all(head.as_bytes()).expect("it is sent");

    // The request waits for its batch, or was already computed on a slow machine.
    let labels = format!("{{model=\"{MODEL}\",version=\"1\"}} 1");
    let under_way = ["pending_request_count", "request_success"]
        .map(|name| format!("nv_inference_{name}{labels}"));
    wait_until(|| {
        let metrics = service.metrics();
        metrics
            .lines()
            .any(|line| under_way.contains(&line.to_owned()))
    });
    service.terminate();

    let answer = timeout(PATIENCE, answers.next()).await;
    let answer = answer.expect("in time").expect("an answer");
    let response = answer.expect("it is answered").infer_response;
    assert_eq!(response.expect("a response").model_version, "1");
    assert!(answers.next().await.is_none(), "the stream ends");
    for streams in &mut open {
        streams.until_ended().await;
    }
    let refused = timeout(PATIENCE, half_upload).await.expect("in time");
    let refused = refused.expect("it ends").expect_err("it is half");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let info = refused.get_details_error_info().expect("a reason");
    assert_eq!(info.reason, "SHUTTING_DOWN");
    half_body
        .set_read_timeout(Some(PATIENCE))
        .expect("it can be set");
    let mut refused = String::new();
    half_body
        .read_to_string(&mut refused)
        .expect("it is answered");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("SHUTTING_DOWN"), "{refused}");

    assert!(service.wait().success());
    drop((open, http, kept_alive, idle, stream));
}

#[tokio::test]
async fn a_watch_of_an_unknown_service_reports_that_and_stays_open() {
    let service = Service::start(&ServiceOptions::default());
    for port in ["grpc", "admin"] {
        let mut unknown = watch(service.socket(port), "no.such.Service").await;
        assert_eq!(
            next_status(&mut unknown).await,
            Some(ServingStatus::ServiceUnknown)
        );
        assert!(futures::poll!(unknown.next()).is_pending(), "it stays open");
        let request = HealthCheckRequest {
            service: "no.such.Service".to_owned(),
        };
        let check = HealthClient::new(service.channel(port).await)
            .check(request)
            .await;
        assert_eq!(check.expect_err("it is unknown").code(), Code::NotFound);
    }
}
