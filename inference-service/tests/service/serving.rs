//! The Open Inference Protocol, over real sockets.

use crate::support::{
    Artifact, CLASSES, MODEL, Service, ServiceOptions, assert_close, infer_request, publish,
};
use proto::inference::{
    InferTensorContents, ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest,
    ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
};
use tonic::{Code, codec::CompressionEncoding};

async fn serving(artifact: &Artifact) -> Service {
    let service = Service::start(&ServiceOptions::default());
    publish(&service, artifact).await;
    service
}

#[tokio::test]
async fn logits_are_those_of_the_model_and_every_sample_is_counted() {
    let artifact = Artifact::new(1);
    let service = serving(&artifact).await;
    let (mut requests, mut samples) = (0, 0);
    for (batch, typed) in [(1, false), (7, false), (1, true), (64, true)] {
        let (mut request, values) = infer_request(batch);
        request.id = format!("request {requests}");
        if typed {
            request.raw_input_contents.clear();
            request.inputs[0].contents = Some(InferTensorContents {
                fp32_contents: values.clone(),
                ..InferTensorContents::default()
            });
        }
        let response = service.infer(request).await.expect("it answers");
        assert_eq!(response.model_name, MODEL);
        assert_eq!(response.model_version, "1");
        assert_eq!(response.id, format!("request {requests}"));
        let [output] = response.outputs.as_slice() else {
            panic!("{} outputs", response.outputs.len());
        };
        assert_eq!(
            (output.name.as_str(), output.datatype.as_str()),
            ("logits", "FP32")
        );
        assert_eq!(output.shape, [batch as i64, CLASSES as i64]);
        assert!(output.contents.is_none());
        assert_close(&response.raw_output_contents[0], &artifact.logits(&values));
        requests += 1;
        samples += batch as u64;
    }
    service
        .infer(infer_request(65).0)
        .await
        .expect_err("65 samples are too many");

    let [statistics] = service.statistics().await.try_into().expect("one version");
    assert_eq!(
        (statistics.name.as_str(), statistics.version.as_str()),
        (MODEL, "1")
    );
    assert_eq!(statistics.inference_count, samples);
    assert_eq!(statistics.execution_count, requests);
    let stats = statistics.inference_stats.expect("they are filled");
    let counts = [stats.success, stats.fail, stats.queue, stats.compute_infer];
    let counts = counts.map(|duration| duration.expect("it is filled").count);
    assert_eq!(counts, [requests, 1, requests, requests]);
    let sizes: Vec<_> = statistics
        .batch_stats
        .iter()
        .map(|batch| batch.batch_size)
        .collect();
    assert_eq!(sizes, [1, 7, 64]);

    let metrics = service.metrics();
    for line in [
        "nv_inference_request_success{model=\"digits\",version=\"1\"} 4".to_owned(),
        "nv_inference_request_failure{model=\"digits\",version=\"1\",reason=\"OTHER\"} 1"
            .to_owned(),
        "nv_inference_request_failure{model=\"digits\",version=\"1\",reason=\"REJECTED\"} 0"
            .to_owned(),
        format!("nv_inference_count{{model=\"digits\",version=\"1\"}} {samples}"),
        "nv_inference_exec_count{model=\"digits\",version=\"1\"} 4".to_owned(),
        "nv_inference_pending_request_count{model=\"digits\",version=\"1\"} 0".to_owned(),
        "retort_inference_active_version{model=\"digits\"} 1".to_owned(),
        "retort_inference_batch_size_count{model=\"digits\",version=\"1\"} 4".to_owned(),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is missing in\n{metrics}"
        );
    }
}

/// Concurrent callers get their own logits, regardless of batches.
#[tokio::test]
async fn concurrent_callers_share_batches_and_get_their_own_logits() {
    const CALLERS: usize = 32;
    const CALLS: usize = 20;
    let artifact = Artifact::new(1);
    let service = serving(&artifact).await;
    let (all, values) = infer_request(CALLERS);
    let expected = artifact.logits(&values);
    let client = service.inference().await;
    let callers = (0..CALLERS).map(|caller| {
        let mut client = client.clone();
        let sample = values.len() / CALLERS;
        let mut request = all.clone();
        request.inputs[0].shape[0] = 1;
        let bytes =
            request.raw_input_contents[0].slice(caller * sample * 4..(caller + 1) * sample * 4);
        request.raw_input_contents = vec![bytes];
        let expected = expected[caller * CLASSES..(caller + 1) * CLASSES].to_vec();
        tokio::spawn(async move {
            for _ in 0..CALLS {
                let response = client
                    .model_infer(request.clone())
                    .await
                    .expect("it answers");
                assert_close(&response.get_ref().raw_output_contents[0], &expected);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("the caller is content");
    }
    let [statistics] = service.statistics().await.try_into().expect("one version");
    let calls = (CALLERS * CALLS) as u64;
    assert_eq!(statistics.inference_count, calls);
    assert!(
        statistics.execution_count < calls,
        "{}",
        statistics.execution_count
    );
    let in_batches = statistics
        .batch_stats
        .iter()
        .map(|batch| batch.batch_size * batch.compute_infer.expect("it is filled").count);
    assert_eq!(in_batches.sum::<u64>(), calls);
}

#[tokio::test]
async fn the_server_and_its_models_describe_themselves() {
    let service = serving(&Artifact::new(1)).await;
    let mut client = service.inference().await;
    assert!(
        client
            .server_live(ServerLiveRequest {})
            .await
            .unwrap()
            .into_inner()
            .live
    );
    assert!(
        client
            .server_ready(ServerReadyRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    let server = client
        .server_metadata(ServerMetadataRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (server.name.as_str(), server.extensions),
        (
            "retort",
            ["model_configuration", "model_repository", "statistics"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    for (name, version, expected) in [
        (MODEL, "", true),
        (MODEL, "1", true),
        (MODEL, "2", false),
        ("cats", "", false),
    ] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let ready = client
            .model_ready(ModelReadyRequest { name, version })
            .await
            .unwrap();
        assert_eq!(ready.into_inner().ready, expected);
    }
    let request = ModelMetadataRequest {
        name: MODEL.to_owned(),
        version: String::new(),
    };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!(
        (metadata.name.as_str(), metadata.versions),
        (MODEL, vec!["1".to_owned()])
    );
    assert_eq!(metadata.platform, "onnxruntime_onnx");
    assert_eq!(metadata.inputs[0].shape, [-1, 1, 8, 8]);
    assert_eq!(metadata.outputs[0].shape, [-1, 3]);

    for (name, version) in [("cats", ""), (MODEL, "2")] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let request = ModelStatisticsRequest { name, version };
        let status = client
            .model_statistics(request)
            .await
            .expect_err("there are none");
        assert_eq!(status.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn gzip_is_supported() {
    let artifact = Artifact::new(1);
    let service = serving(&artifact).await;
    let client = service.inference().await;
    let (request, values) = infer_request(2);
    let response = client
        .send_compressed(CompressionEncoding::Gzip)
        .model_infer(request)
        .await;
    let response = response.expect("it answers").into_inner();
    assert_close(&response.raw_output_contents[0], &artifact.logits(&values));
}

#[tokio::test]
async fn a_message_above_the_limit_is_rejected() {
    let options = ServiceOptions {
        set: &["grpc.max_message_bytes=4096"],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    let status = service
        .infer(infer_request(64).0)
        .await
        .expect_err("16 KiB are too many");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

#[tokio::test]
async fn reflection_lists_the_services_of_the_port() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let service = Service::start(&ServiceOptions::default());
    for (port, name) in [
        ("grpc", "inference.GRPCInferenceService"),
        ("admin", "retort.publish.v1.PublisherService"),
    ] {
        let mut client = ServerReflectionClient::new(service.channel(port).await);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let responses = client
            .server_reflection_info(tokio_stream::iter([request]))
            .await;
        let mut responses = responses.expect("reflection answers").into_inner();
        let response = responses
            .message()
            .await
            .expect("a response")
            .expect("one response");
        let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else {
            panic!("{response:?}");
        };
        let names: Vec<_> = list
            .service
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        assert!(names.contains(&name), "{names:?}");
        assert!(
            !names.contains(&"retort.teacher.v1.TeacherService"),
            "{names:?}"
        );
    }
}
