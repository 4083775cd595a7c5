use artifacts::model_store::{FolderStore, ModelName};
use proto::inference::model_infer_request::InferInputTensor;
use tonic::Code;

use super::*;
use crate::{
    catalog::Catalog,
    config::{InferenceConfig, ModelControl, ReadinessPolicy},
    publisher::SignaturePolicy,
    readiness::Readiness,
    statistics::{FailureReason, Totals},
    test_model,
};

/// A service whose only model has no session, so that requests stay in the queue.
fn stuck(max_queue_size: usize) -> Arc<InferenceEdge> {
    let mut config = InferenceConfig::shipped();
    config.batching.max_queue_size = max_queue_size;
    let catalog = Arc::new(Catalog::default());
    let model = ModelName::new("m").unwrap();
    let of_model = config.model("m");
    let loaded = test_model::without_sessions_configured(&catalog, &model, 1, of_model);
    let store = FolderStore::open(tempfile::tempdir().unwrap().path()).unwrap();
    let publisher = Publisher::new(
        Box::new(store),
        Arc::clone(&catalog),
        &config,
        SignaturePolicy::default(),
    );
    catalog.serve(&model, 1, [(1, loaded)].into(), [(1, None)].into());
    let readiness = Readiness::new(Arc::clone(&catalog), ReadinessPolicy::AllModels);
    readiness.start();
    Arc::new(InferenceEdge {
        inference: Arc::new(Inference::new(catalog, readiness, false, None)),
        publisher: Arc::new(publisher),
        max_message_bytes: config.grpc.max_message_bytes,
        model_control: ModelControl::AdminToken,
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
async fn a_full_queue_rejects_requests_until_a_caller_cancels() {
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
    // The request is queued, and its deadline passes.
    let status = service.model_infer(request(Some("20m"))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(failures(&service, FailureReason::Canceled), 1);
    assert_eq!(failures(&service, FailureReason::Rejected), 2);
}

#[tokio::test]
async fn only_callers_with_a_token_load_models() {
    let service = stuck(8);
    let unload = async |token: Option<TokenHolder>| {
        let mut request = Request::new(RepositoryModelUnloadRequest {
            model_name: "m".to_owned(),
            ..RepositoryModelUnloadRequest::default()
        });
        if let Some(token) = token {
            request.extensions_mut().insert(token);
        }
        service.repository_model_unload(request).await.map(drop)
    };
    for anonymous in [None, Some(TokenHolder(None))] {
        let status = unload(anonymous).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert!(status.message().contains("grpc.model_control"), "{status}");
    }
    unload(Some(TokenHolder(Some("ci".into())))).await.unwrap();
    assert_eq!(
        service
            .inference
            .catalog
            .serving(&ModelName::new("m").unwrap()),
        None
    );
}

#[tokio::test]
async fn statistics_include_the_memory_of_a_loaded_version() {
    let service = stuck(8);
    let request = ModelStatisticsRequest::default();
    let answer = statistics::statistics(&service.inference.catalog, &request).unwrap();
    let [version] = answer.model_stats.as_slice() else {
        panic!("{answer:?}");
    };
    let expected = proto::inference::MemoryUsage {
        r#type: "CPU".to_owned(),
        id: 0,
        byte_size: 7,
    };
    assert_eq!(version.memory_usage, [expected]);
    service
        .inference
        .catalog
        .unload(&ModelName::new("m").unwrap());
    let answer = statistics::statistics(&service.inference.catalog, &request).unwrap();
    assert!(answer.model_stats[0].memory_usage.is_empty());
}
