use common::model_store::ModelName;
use onnx_runtime::ModelInterface;
use proto::inference::model_infer_request::InferInputTensor;
use tonic::Code;

use super::*;
use crate::{
    catalog::{Catalog, Prepared},
    config::InferenceConfig,
    statistics::{FailureReason, Totals},
    test_model,
};

/// A service whose only model has no session: whatever gets into its queue stays there.
fn stuck(max_queue_size: usize) -> Arc<InferenceEdge> {
    let (_, manifest) = test_model::model(&[[0.0; 2]; 3]);
    let prepared = Prepared {
        interface: ModelInterface {
            input_shape: [1, 1, 1],
            classes: 2,
        },
        manifest,
        sessions: Vec::new(),
        memory_bytes: 0,
    };
    let mut config = InferenceConfig::shipped();
    config.batching.max_queue_size = max_queue_size;
    let config = Arc::new(config.model("m"));
    let model = ModelName::new("m").unwrap();
    let catalog = Catalog::default();
    let loaded = catalog.load(&model, 1, prepared, config).unwrap();
    catalog.serve(&model, Some(1), [(1, loaded)].into(), [(1, None)].into());
    Arc::new(InferenceEdge {
        inference: Arc::new(Inference::new(Arc::new(catalog), false)),
        publisher: None,
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
