//! Several versions of a model, loading and unloading, memory, and configuration per model.

use std::collections::BTreeSet;

use crate::support::{Artifact, MODEL, Service, ServiceOptions, assert_close, infer_request};
use proto::inference::{
    ModelConfig, ModelConfigRequest, ModelInferRequest, ModelRepositoryParameter,
    ModelStreamInferResponse, RepositoryIndexRequest, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_config::SchedulingChoice, model_repository_parameter::ParameterChoice,
    model_version_policy::PolicyChoice,
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

fn start(set: &[&str]) -> Service {
    Service::start(&ServiceOptions {
        set,
        ..ServiceOptions::default()
    })
}

async fn publish(service: &Service, n: u64) {
    let published = service.publish(Artifact::constant(n).upload()).await;
    assert_eq!(published.expect("it is published").version, n);
}

/// The version that answers a request for `version`.
async fn answering(service: &Service, version: &str) -> Result<String, Status> {
    let (mut request, _) = infer_request(1);
    request.model_version = version.to_owned();
    Ok(service.infer(request).await?.model_version)
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.expect("there is an ErrorInfo").reason
}

/// Version and state of every stored version.
async fn index(service: &Service, ready: bool) -> Vec<(String, String)> {
    let request = RepositoryIndexRequest {
        ready,
        ..RepositoryIndexRequest::default()
    };
    let response = service.inference().await.repository_index(request).await;
    let models = response.expect("it is listed").into_inner().models;
    let listed = models.into_iter().map(|model| (model.version, model.state));
    listed.collect()
}

async fn admin(service: &Service) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(service.channel("admin").await)
}

async fn load(service: &Service, version: Option<i64>) -> Result<(), Status> {
    let version = version.map(|version| {
        let parameter_choice = Some(ParameterChoice::Int64Param(version));
        let parameter = ModelRepositoryParameter { parameter_choice };
        ("version".to_owned(), parameter)
    });
    let request = RepositoryModelLoadRequest {
        model_name: MODEL.to_owned(),
        parameters: version.into_iter().collect(),
        ..RepositoryModelLoadRequest::default()
    };
    let response = admin(service).await.repository_model_load(request).await;
    response.map(drop)
}

async fn unload(service: &Service) {
    let request = RepositoryModelUnloadRequest {
        model_name: MODEL.to_owned(),
        ..RepositoryModelUnloadRequest::default()
    };
    let response = admin(service).await.repository_model_unload(request).await;
    response.expect("it is unloaded");
}

async fn config(service: &Service) -> ModelConfig {
    let request = ModelConfigRequest {
        name: MODEL.to_owned(),
        version: String::new(),
    };
    let response = service.inference().await.model_config(request).await;
    let config = response.expect("a configuration").into_inner().config;
    config.expect("it is filled")
}

#[tokio::test]
async fn the_policy_selects_the_versions_that_answer_besides_the_active_one() {
    let cases: [(&str, &[u64]); 4] = [
        ("version_policy={ latest = { num_versions = 1 } }", &[4]),
        ("version_policy={ latest = { num_versions = 2 } }", &[3, 4]),
        ("version_policy={ all = {} }", &[1, 2, 3, 4]),
        (
            "models.digits.version_policy={ specific = { versions = [1, 3] } }",
            &[1, 3, 4],
        ),
    ];
    for (policy, expected) in cases {
        let service = start(&[policy]);
        for n in 1..=4 {
            publish(&service, n).await;
        }
        assert_eq!(answering(&service, "").await.unwrap(), "4");
        for version in 1..=4 {
            let named = version.to_string();
            match answering(&service, &named).await {
                Ok(answered) => {
                    assert!(expected.contains(&version), "{policy}");
                    assert_eq!(answered, named);
                }
                Err(status) => {
                    assert!(!expected.contains(&version), "{policy}: {status}");
                    assert_eq!(status.code(), Code::NotFound);
                }
            }
        }
        let ready: Vec<_> = expected
            .iter()
            .map(|version| (version.to_string(), "READY".to_owned()))
            .collect();
        assert_eq!(index(&service, true).await, ready, "{policy}");
        assert_eq!(index(&service, false).await.len(), 4);

        service.activate(MODEL, 2).await.unwrap();
        assert_eq!(answering(&service, "").await.unwrap(), "2");
    }
}

#[tokio::test]
async fn an_unloaded_model_answers_unavailable_until_it_is_loaded() {
    let service = start(&[]);
    publish(&service, 1).await;
    publish(&service, 2).await;
    unload(&service).await;
    let status = answering(&service, "").await.expect_err("it is unloaded");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "MODEL_NOT_LOADED")
    );
    let unavailable = |version: &str| (version.to_owned(), "UNAVAILABLE".to_owned());
    assert_eq!(
        index(&service, false).await,
        [unavailable("1"), unavailable("2")]
    );
    load(&service, None).await.unwrap();
    assert_eq!(answering(&service, "").await.unwrap(), "2");
    load(&service, Some(1)).await.unwrap();
    assert_eq!(answering(&service, "").await.unwrap(), "1");
    let status = load(&service, Some(7)).await.expect_err("there is none");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(answering(&service, "").await.unwrap(), "1");

    // Not permitted at the gRPC port.
    let request = RepositoryModelLoadRequest {
        model_name: MODEL.to_owned(),
        ..RepositoryModelLoadRequest::default()
    };
    let mut client = service.inference().await;
    let status = client.repository_model_load(request).await;
    let status = status.expect_err("it is the wrong port");
    assert_eq!(status.code(), Code::Unimplemented);
}

/// Estimated bytes of a version of [`Artifact::constant`].
async fn memory(service: &Service) -> u64 {
    let metrics = service.metrics();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("retort_inference_model_memory_bytes{"));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.expect("it is there").parse().expect("a number")
}

#[tokio::test]
async fn a_swap_that_does_not_fit_is_rejected_or_unloads_first() {
    let service = start(&[]);
    publish(&service, 1).await;
    let one = memory(&service).await;
    drop(service);

    let limit = format!("memory.max_model_bytes={}", one + one / 2);
    let service = start(&[&limit]);
    publish(&service, 1).await;
    let refused = service.publish(Artifact::constant(2).upload()).await;
    let refused = refused.expect_err("there is no room for two");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "MEMORY_LIMIT")
    );
    assert!(
        refused.message().contains("memory.max_model_bytes"),
        "{refused}"
    );
    assert_eq!(answering(&service, "").await.unwrap(), "1");
    assert_eq!(service.versions().await.len(), 1);
    drop(service);

    let service = start(&[&limit, "memory.on_swap=unload_first"]);
    publish(&service, 1).await;
    publish(&service, 2).await;
    assert_eq!(answering(&service, "").await.unwrap(), "2");
    service.activate(MODEL, 1).await.expect("it is rolled back");
    assert_eq!(answering(&service, "").await.unwrap(), "1");
    service.activate(MODEL, 2).await.expect("it is activated");
    let log = service.log();
    assert!(!log.contains("keep unloaded sessions busy"), "{log}");
    // If the swap fails after the unloading, the old version is loaded again.
    let mut broken = Artifact::constant(3);
    broken.manifest["golden_batch"]["tolerance"] = 1e-6.into();
    broken.manifest["golden_batch"]["logits"][0][0] = 99.0.into();
    let status = service.publish(broken.upload()).await;
    assert_eq!(
        reason(&status.expect_err("it is wrong")),
        "GOLDEN_BATCH_DISAGREES"
    );
    assert_eq!(answering(&service, "").await.unwrap(), "2");

    let too_small = format!("memory.max_model_bytes={}", one / 2);
    let service = start(&[&too_small, "memory.on_swap=unload_first"]);
    let status = service.publish(Artifact::constant(1).upload()).await;
    assert_eq!(reason(&status.expect_err("it never fits")), "MEMORY_LIMIT");
}

#[tokio::test]
async fn a_models_configuration_is_used_and_reported() {
    let service = start(&[
        "models.digits.max_batch_size=2",
        "models.digits.instances=3",
        "models.digits.threads=2",
        "models.digits.deterministic=true",
        "models.digits.max_queue_delay_microseconds=10",
        "models.digits.default_timeout_microseconds=30000000",
        "models.digits.version_policy={ all = {} }",
    ]);
    publish(&service, 1).await;
    let config = config(&service).await;
    assert_eq!(config.name, MODEL);
    assert_eq!(
        (config.max_batch_size, config.platform.as_str()),
        (2, "onnxruntime_onnx")
    );
    assert_eq!(config.instance_group[0].count, 3);
    assert_eq!(config.input[0].dims, [1, 8, 8]);
    assert_eq!(config.output[0].dims, [3]);
    assert_eq!(config.parameters["deterministic"].string_value, "true");
    assert_eq!(config.parameters["intra_op_thread_count"].string_value, "2");
    let policy = config
        .version_policy
        .and_then(|policy| policy.policy_choice);
    assert!(matches!(policy, Some(PolicyChoice::All(_))), "{policy:?}");
    let Some(SchedulingChoice::DynamicBatching(batching)) = config.scheduling_choice else {
        panic!("it batches");
    };
    assert_eq!(batching.max_queue_delay_microseconds, 10);
    let queue = batching.default_queue_policy.expect("it is filled");
    assert_eq!(queue.default_timeout_microseconds, 30_000_000);

    let status = service.infer(infer_request(3).0).await;
    assert_eq!(
        status.expect_err("3 are too many").code(),
        Code::InvalidArgument
    );
    assert!(service.infer(infer_request(2).0).await.is_ok());
}

/// Regardless of concurrent requests and of the batch of a sample.
#[tokio::test]
async fn a_deterministic_models_answers_are_bit_identical() {
    const CALLERS: usize = 24;
    let artifact = Artifact::new(1);
    let service = start(&["runtime.deterministic=true", "runtime.instances=2"]);
    service
        .publish(artifact.upload())
        .await
        .expect("it is published");
    let (all, values) = infer_request(CALLERS);
    let bytes = all.raw_input_contents[0].clone();
    let sample = bytes.len() / CALLERS;
    let request = move |first: usize, samples: usize| {
        let mut request = all.clone();
        request.inputs[0].shape[0] = samples as i64;
        request.raw_input_contents = vec![bytes.slice(first * sample..(first + samples) * sample)];
        request
    };
    let mut alone = Vec::new();
    for caller in 0..CALLERS {
        let response = service.infer(request(caller, 1)).await.expect("it answers");
        alone.extend_from_slice(&response.raw_output_contents[0]);
    }
    assert_close(&alone, &artifact.logits(&values));
    let together = service
        .infer(request(0, CALLERS))
        .await
        .expect("it answers");
    assert!(together.raw_output_contents[0] == alone, "in one request");

    let client = service.inference().await;
    let logits = alone.len() / CALLERS;
    let calls = (0..CALLERS).map(|caller| {
        let (mut client, request) = (client.clone(), request(caller, 1));
        tokio::spawn(async move {
            let response = client.model_infer(request).await.expect("it answers");
            response.into_inner().raw_output_contents[0].clone()
        })
    });
    for (caller, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let answer = call.await.expect("the call ends");
        assert!(
            answer == alone[caller * logits..(caller + 1) * logits],
            "{caller}"
        );
    }
    let [statistics] = service.statistics().await.try_into().expect("one version");
    assert_eq!(statistics.execution_count, statistics.inference_count);
}

#[tokio::test]
async fn a_stream_answers_in_order_and_continues_after_an_error() {
    let service = start(&[]);
    publish(&service, 1).await;
    let request = |id: &str, change: fn(&mut ModelInferRequest)| {
        let (mut request, _) = infer_request(1);
        request.id = id.to_owned();
        change(&mut request);
        request
    };
    let requests = [
        request("a", |_| {}),
        request("b", |request| {
            request.inputs[0].datatype = "INT8".to_owned()
        }),
        request("c", |request| request.model_name = "cats".to_owned()),
        request("d", |_| {}),
    ];
    let mut client = service.inference().await;
    let stream = client
        .model_stream_infer(tokio_stream::iter(requests))
        .await;
    let mut stream = stream.expect("it is opened").into_inner();
    let mut answers = Vec::new();
    while let Some(ModelStreamInferResponse {
        error_message,
        infer_response,
    }) = stream.message().await.expect("the stream stays open")
    {
        let response = infer_response.expect("it has the id");
        answers.push((response.id, error_message, response.outputs.len()));
    }
    let [a, b, c, d] = answers.try_into().expect("one answer a request");
    assert_eq!(a, ("a".to_owned(), String::new(), 1));
    assert_eq!((b.0.as_str(), b.2), ("b", 0));
    assert!(b.1.contains("inputs[0].datatype"), "{}", b.1);
    assert_eq!((c.0.as_str(), c.2), ("c", 0));
    assert!(c.1.contains("`cats`"), "{}", c.1);
    assert_eq!(d, ("d".to_owned(), String::new(), 1));
}

#[tokio::test]
async fn the_access_log_names_requests_and_never_their_content() {
    let service = start(&["log.access=true"]);
    publish(&service, 1).await;
    let mut client = service.inference().await;
    let (mut named, _) = infer_request(1);
    named.id = "from-the-message".to_owned();
    client.model_infer(named).await.expect("it answers");
    let mut headed = tonic::Request::new(infer_request(2).0);
    let id = "from-the-headers".parse().expect("it is ASCII");
    headed.metadata_mut().insert("x-request-id", id);
    client.model_infer(headed).await.expect("it answers");
    let (mut unknown, _) = infer_request(1);
    unknown.id = "of-an-unknown-model".to_owned();
    unknown.model_name = "cats".to_owned();
    client
        .model_infer(unknown)
        .await
        .expect_err("no such model");
    let mut odd = infer_request(1).0;
    odd.id = "with-a-text".to_owned();
    // Numbers whose bytes are a text that no log line contains by accident.
    let size = odd.raw_input_contents[0].len();
    odd.raw_input_contents[0] = b"PAYLOAD ".repeat(size / 8).into();
    client.model_infer(odd).await.expect("it answers");
    for _ in 0..2 {
        let answer = client.model_infer(infer_request(1).0).await;
        assert_eq!(answer.expect("it answers").into_inner().id, "");
    }
    // The last two requests have no id; all earlier lines are written before theirs.
    let log = service.log_once(|log| log.matches("request=\"unnamed-").count() >= 2);
    assert!(!log.contains("PAYLOAD"), "{log}");
    let line = log
        .lines()
        .find(|line| line.contains("of-an-unknown-model"));
    let line = line.expect("it is logged");
    assert!(
        line.contains("MODEL_NOT_FOUND") && line.contains("cats"),
        "{line}"
    );
    for (request, samples) in [
        ("from-the-message", 1),
        ("from-the-headers", 2),
        ("with-a-text", 1),
    ] {
        let line = log.lines().find(|line| line.contains(request));
        let line = line.expect("it is logged");
        assert!(line.contains(&format!("samples={samples}")), "{line}");
        assert!(line.contains("outcome=\"OK\""), "{line}");
    }
    // Requests without an id have different names, only in the log.
    let unnamed = log.lines().filter_map(|line| {
        let (_, name) = line.split_once("request=\"unnamed-")?;
        name.split_once('"')
    });
    let numbers: BTreeSet<_> = unnamed.map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), 2, "{log}");
}
