//! Traces of calls, received by a collector.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use futures::StreamExt;
use proto::inference::ModelInferRequest;
use serde_json::json;
use test_support::{CollectedSpan, TraceCollector, unused_address};
use tonic::Request;

use crate::support::{
    Artifact, BINARY, Connection, FREE_PORTS, MODEL, Service, ServiceOptions, infer_request,
    publish, wait_until,
};

const METHOD: &str = "inference.GRPCInferenceService/ModelInfer";

/// Starts a service with a model and these variables.
async fn serving(environment: &[(&str, String)], set: &[&str]) -> Service {
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (OsStr::new(*name), OsStr::new(value)))
        .collect();
    let service = Service::start(&ServiceOptions {
        environment: &environment,
        set,
        ..ServiceOptions::default()
    });
    publish(&service, &Artifact::new(1)).await;
    service
}

/// The ids of the span of caller `number`.
fn caller(number: u8) -> (String, String) {
    (format!("{number:032x}"), format!("{number:016x}"))
}

fn traceparent(number: u8) -> String {
    let (trace, span) = caller(number);
    format!("00-{trace}-{span}-01")
}

fn traced<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", traceparent.parse().expect("ASCII"));
    request
}

async fn infer(service: &Service, message: ModelInferRequest, traceparent: &str) {
    let mut client = service.inference().await;
    let answer = client.model_infer(traced(message, traceparent)).await;
    answer.expect("it answers");
}

/// Waits for the span of the call of caller `number`.
fn of_caller(collector: &TraceCollector, name: &str, number: u8) -> CollectedSpan {
    let (trace, parent) = caller(number);
    collector.span(name, |span| span.trace == trace && span.parent == parent)
}

#[tokio::test]
async fn a_call_is_a_part_of_its_callers_trace_up_to_the_batch() {
    let collector = TraceCollector::start();
    let service = serving(&collector.environment(), &[]).await;
    infer(&service, infer_request(3).0, &traceparent(1)).await;

    let mut http = Connection::to(&service.address("http"));
    let line = format!("POST /v2/models/{MODEL}/infer");
    let input =
        json!({"name": "input", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": vec![0.5; 64]});
    let body = json!({"inputs": [input]}).to_string();
    let parent = traceparent(2);
    let answer = http.call(&line, &[("traceparent", parent.as_str())], body.as_bytes());
    assert_eq!(answer.status, 200);

    let requests = tokio_stream::iter([infer_request(1).0]);
    let mut client = service.inference().await;
    let answers = client.model_stream_infer(traced(requests, &traceparent(3)));
    let answers: Vec<_> = answers
        .await
        .expect("it answers")
        .into_inner()
        .collect()
        .await;
    assert_eq!(answers.len(), 1);

    let route = "POST /v2/models/{model}/infer";
    let stream = "inference.GRPCInferenceService/ModelStreamInfer";
    for (number, name, samples, status) in [
        (1, METHOD, "3", ("rpc.grpc.status_code", "0")),
        (2, route, "1", ("http.response.status_code", "200")),
        (3, stream, "1", ("rpc.grpc.status_code", "0")),
    ] {
        let call = of_caller(&collector, name, number);
        assert_eq!(call.service, "inference-service");
        assert_eq!(call.attributes[status.0], status.1, "{call:?}");
        assert!(!call.failed);
        collector.part(&call, "queue");
        collector.part(&call, "compute");
        let batch = collector.part(&call, "batch");
        assert_eq!(batch.attributes["retort.batch.samples"], samples);
        assert_eq!(batch.links, [(call.trace.clone(), call.id.clone())]);
    }
}

/// On a loaded machine, the second request may come too late for the batch of the first one.
#[tokio::test]
async fn a_batch_is_linked_to_all_its_requests() {
    let collector = TraceCollector::start();
    let set = [
        "batching.max_batch_size=2",
        "batching.max_queue_delay_microseconds=1000000",
    ];
    let service = serving(&collector.environment(), &set).await;
    for attempt in 1..=50 {
        let numbers = [2 * attempt, 2 * attempt + 1];
        let [first, second] = numbers.map(traceparent);
        tokio::join!(
            infer(&service, infer_request(1).0, &first),
            infer(&service, infer_request(1).0, &second),
        );
        let calls = numbers.map(|number| of_caller(&collector, METHOD, number));
        let batch = collector.span("batch", |span| {
            calls.iter().any(|call| call.id == span.parent)
        });
        if batch.attributes["retort.batch.requests"] == "1" {
            continue;
        }
        let mut links = batch.links.clone();
        links.sort();
        let mut expected = calls
            .each_ref()
            .map(|call| (call.trace.clone(), call.id.clone()));
        expected.sort();
        assert_eq!(links, expected);
        for call in &calls {
            let compute = collector.part(call, "compute");
            assert_eq!(compute.links, [(batch.trace.clone(), batch.id.clone())]);
        }
        return;
    }
    panic!("no two requests came together");
}

#[tokio::test]
async fn a_failed_call_has_its_status_and_probes_have_no_spans() {
    let collector = TraceCollector::start();
    let service = serving(&collector.environment(), &[]).await;
    let channel = service.channel("grpc").await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let check = tonic_health::pb::HealthCheckRequest::default();
    health.check(traced(check, &traceparent(4))).await.unwrap();
    let (mut message, _) = infer_request(1);
    message.model_name = "cats".to_owned();
    let mut client = service.inference().await;
    let call = client.model_infer(traced(message, &traceparent(5))).await;
    call.expect_err("there is no such model");
    let call = of_caller(&collector, METHOD, 5);
    // NOT_FOUND is the caller's error.
    assert_eq!(call.attributes["rpc.grpc.status_code"], "5");
    assert!(!call.failed);
    service.terminate();
    assert!(service.wait().success());
    let (trace, _) = caller(4);
    assert!(collector.spans().iter().all(|span| span.trace != trace));
}

/// The end of the service sends the last spans, so that none can arrive afterwards.
#[tokio::test]
async fn nothing_is_sent_unless_a_collector_is_named_and_the_trace_is_sampled() {
    let collector = TraceCollector::start();
    let [endpoint, delay] = collector.environment();
    let off = ("OTEL_TRACES_EXPORTER", "none".to_owned());
    let disabled = [endpoint.clone(), delay.clone(), off];
    for environment in [&[][..], &disabled[..]] {
        let service = serving(environment, &[]).await;
        infer(&service, infer_request(1).0, &traceparent(6)).await;
        assert!(!service.metrics().contains("retort_trace"));
        service.terminate();
        assert!(service.wait().success());
    }
    assert!(collector.spans().is_empty());

    let service = serving(&[endpoint, delay], &[]).await;
    let (trace, span) = caller(7);
    infer(
        &service,
        infer_request(1).0,
        &format!("00-{trace}-{span}-00"),
    )
    .await;
    infer(&service, infer_request(1).0, &traceparent(8)).await;
    service.terminate();
    assert!(service.wait().success());
    of_caller(&collector, METHOD, 8);
    assert!(collector.spans().iter().all(|span| span.trace != trace));
}

#[tokio::test]
async fn a_dead_collector_costs_spans_but_no_call() {
    let environment = [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", unused_address()),
        ),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2".to_owned()),
    ];
    let service = serving(&environment, &[]).await;
    for number in 1..=20 {
        infer(&service, infer_request(1).0, &traceparent(number)).await;
    }
    let value = |name: &str| service.metric(name);
    wait_until(|| value("retort_trace_spans_dropped_total") > 0.0);
    assert_eq!(value("retort_trace_spans_exported_total"), 0.0);
    service.log_once(|log| log.contains("the collector does not take traces"));
    service.terminate();
    assert!(service.wait().success());
}

#[test]
fn wrong_variables_are_reported_before_a_port_is_bound() {
    let output = Command::new(BINARY)
        .arg("serve")
        .args(FREE_PORTS)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
        .env("OTEL_TRACES_SAMPLER", "sometimes")
        .stdout(Stdio::null())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(64));
    let problems = String::from_utf8_lossy(&output.stderr).into_owned();
    for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER"] {
        assert!(problems.contains(name), "{name}: {problems}");
    }
}
