//! `retort_client` against a real service.

use std::{net::TcpListener, time::Duration};

use retort_client::{Client, ClientError, ClientOptions, InferRequest, Tensor};
use test_support::unused_address;
use tonic::Code;

use crate::support::{Artifact, MODEL, PATIENCE, Service, ServiceOptions, infer_request, publish};

/// A request for two samples, and their values.
fn request() -> (InferRequest, Vec<f32>) {
    let (_, values) = infer_request(2);
    let input = Tensor::new("input", &[2, 1, 8, 8], &values).expect("they fit");
    let request = InferRequest {
        model: MODEL.to_owned(),
        id: "an id".to_owned(),
        inputs: vec![input],
        ..InferRequest::default()
    };
    (request, values)
}

#[tokio::test]
async fn typed_tensors_return_with_the_servers_times() {
    let artifact = Artifact::new(1);
    let service = Service::start(&ServiceOptions::default());
    publish(&service, &artifact).await;
    let client = Client::new(service.address("grpc"), ClientOptions::default());
    let client = client.expect("a good address");
    let (mut request, values) = request();
    let plain = client.infer(&request).await.expect("it answers");
    assert_eq!((&*plain.version, &*plain.id), ("1", "an id"));
    assert_eq!(plain.times, None);
    let logits = plain.output("logits").expect("it is there");
    assert_eq!(logits.shape(), [2, 3]);
    let expected = artifact.logits(&values);
    let found: Vec<f32> = logits.values().expect("they are f32");
    let close = found
        .iter()
        .zip(&expected)
        .all(|(a, b)| (a - b).abs() <= 1e-5);
    assert!(close, "{found:?} {expected:?}");

    request.timing = true;
    let timed = client.infer(&request).await.expect("it answers");
    let times = timed.times.expect("it was asked for them");
    assert!(times.compute_infer > Duration::ZERO && times.compute_infer <= times.request);
    let metadata = client.metadata(MODEL, Some(1)).await.expect("it is known");
    assert_eq!(metadata.inputs[0].shape, [-1, 1, 8, 8]);
    let statistics = client
        .statistics(MODEL, None)
        .await
        .expect("they are given");
    assert_eq!(statistics[0].inference_count, 4);

    request.model = "cats".to_owned();
    let error = client.infer(&request).await.expect_err("there are no cats");
    assert!(
        matches!(&error, ClientError::Refused { code: Code::NotFound, message, .. } if message.contains("cats")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlasts_a_restart_of_the_service() {
    let address = unused_address();
    let listen = format!("grpc.listen={address}");
    let store = tempfile::tempdir().expect("a temporary folder");
    let start = || {
        Service::start(&ServiceOptions {
            store: Some(store.path()),
            set: &[&listen],
            ..ServiceOptions::default()
        })
    };
    let first = start();
    publish(&first, &Artifact::new(1)).await;
    let client = |retries| {
        let options = ClientOptions {
            deadline: PATIENCE,
            retries,
            ..ClientOptions::default()
        };
        Client::new(&address, options).expect("a good address")
    };
    let (patient, hasty) = (client(100_000), client(0));
    let (request, _) = request();
    patient.infer(&request).await.expect("it answers");
    first.terminate();
    assert!(first.wait().success());
    let error = hasty.infer(&request).await.expect_err("it is away");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let call = tokio::spawn(async move { patient.infer(&request).await });
    let _second = start();
    let answered = call.await.expect("no panic").expect("it answers again");
    assert_eq!(answered.version, "1");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    // Connections are accepted by the operating system, and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let options = ClientOptions {
        deadline: Duration::from_millis(200),
        ..ClientOptions::default()
    };
    let client = Client::new(address.as_str(), options).expect("a good address");
    let error = client.infer(&request().0).await.expect_err("it is silent");
    let late = matches!(
        error,
        ClientError::Deadline { .. }
            | ClientError::Refused {
                code: Code::DeadlineExceeded,
                ..
            }
    );
    assert!(late && error.to_string().contains(&address), "{error}");
}

#[test]
fn an_address_needs_a_port() {
    let error = Client::new("digits.example", ClientOptions::default()).expect_err("no port");
    assert!(error.to_string().contains("host:port"), "{error}");
}
