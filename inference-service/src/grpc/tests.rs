use common::model_store::ModelName;
use onnx_runtime::ModelInterface;
use proto::inference::model_infer_request::InferInputTensor;
use tonic::Code;

use super::*;
use crate::{
    catalog::{Catalog, Sessions},
    config::BatchingConfig,
    metrics::Metrics,
    statistics::{FailureReason, Totals},
    test_model,
};

/// A service whose only model has no session: whatever gets into its queue stays there.
fn stuck(max_queue_size: usize) -> Arc<InferenceEdge> {
    let catalog = Catalog::new(Arc::new(Metrics::new().unwrap()));
    let sessions = Sessions {
        interface: ModelInterface {
            input_shape: [1, 1, 1],
            classes: 2,
        },
        sessions: Vec::new(),
    };
    let batching = BatchingConfig {
        max_batch_size: 4,
        max_queue_delay_microseconds: 0,
        max_queue_size,
    };
    let model = ModelName::new("m").unwrap();
    let (_, manifest) = test_model::model(&[[0.0; 2]; 3]);
    let loaded = catalog.load(&model, 1, sessions, manifest, batching);
    let loaded = loaded.unwrap();
    catalog.serve(loaded);
    Arc::new(InferenceEdge {
        inference: Arc::new(Inference::new(Arc::new(catalog))),
    })
}

fn request(timeout: Option<&'static str>) -> Request<ModelInferRequest> {
    let mut request = Request::new(ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![InferInputTensor {
            name: "input".into(),
            datatype: "FP32".into(),
            shape: vec![1; 4],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![vec![0; 4].into()],
        ..ModelInferRequest::default()
    });
    if let Some(timeout) = timeout {
        request
            .metadata_mut()
            .insert("grpc-timeout", timeout.parse().unwrap());
    }
    request
}

fn totals(service: &InferenceEdge) -> Totals {
    service
        .inference
        .catalog
        .find("m", "")
        .unwrap()
        .statistics
        .totals()
}

fn failures(service: &InferenceEdge, reason: FailureReason) -> u64 {
    totals(service)
        .failures
        .get(&reason)
        .map_or(0, |failure| failure.count)
}

async fn queued(service: &Arc<InferenceEdge>) -> tokio::task::JoinHandle<()> {
    let version = service.inference.catalog.find("m", "").unwrap();
    let before = version.batcher.pending();
    let call = Arc::clone(service);
    let task = tokio::spawn(async move { drop(call.model_infer(request(None)).await) });
    while version.batcher.pending() == before {
        tokio::task::yield_now().await;
    }
    task
}

#[tokio::test]
async fn a_callers_deadline_ends_the_wait() {
    let service = stuck(8);
    for timeout in ["20m", "0n"] {
        let status = service
            .model_infer(request(Some(timeout)))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
    assert_eq!(failures(&service, FailureReason::Rejected), 2);
    assert_eq!(totals(&service).inferences, 0);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_has_room_again_when_a_caller_hangs_up() {
    let service = stuck(2);
    let first = queued(&service).await;
    let _second = queued(&service).await;
    let status = service.model_infer(request(None)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("2 requests are waiting"),
        "{status}"
    );

    first.abort();
    first.await.unwrap_err();
    // It gets in, and waits in vain.
    let status = service.model_infer(request(Some("20m"))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(failures(&service, FailureReason::Canceled), 1);
    assert_eq!(failures(&service, FailureReason::Rejected), 2);
}

#[test]
fn timeouts_are_read_as_the_protocol_writes_them() {
    let cases = [
        ("1H", Duration::from_secs(3600)),
        ("2M", Duration::from_secs(120)),
        ("99999999S", Duration::from_secs(99_999_999)),
        ("250m", Duration::from_millis(250)),
        ("3u", Duration::from_micros(3)),
        ("0n", Duration::ZERO),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_timeout(text), Some(expected), "{text}");
    }
    for bad in ["", "1", "S", "1s", "-1S", "+1S", "123456789S", "1é", "é"] {
        assert_eq!(parse_timeout(bad), None, "{bad}");
    }
}
