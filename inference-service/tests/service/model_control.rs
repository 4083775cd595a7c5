//! Loading and unloading models at the gRPC port, and unsupported requests.

use proto::{
    inference::{
        RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    publish::v1::publisher_service_client::PublisherServiceClient,
};
use server::security::Scope;
use test_support::certificates::Keys;
use tonic::Code;

use crate::{
    clients::python,
    support::{Artifact, MODEL, Service, ServiceOptions, publish, repository},
};

#[tokio::test]
async fn tritonclient_loads_and_unloads_at_the_grpc_port() {
    let service = Service::start(&ServiceOptions {
        set: &["grpc.model_control=every_caller"],
        ..ServiceOptions::default()
    });
    publish(&service, &Artifact::new(1)).await;
    let output = python()
        .arg(repository().join("inference-service/tests/service/model_control.py"))
        .args(["--grpc", &service.address("grpc")])
        .args(["--http", &service.address("http")])
        .args(["--model", MODEL])
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}\n{}", service.log());
    assert!(text.contains("all as expected"), "{text}");
}

#[tokio::test]
async fn loading_requires_a_token_for_administration() {
    let keys = Keys::new();
    for (name, scope) in [
        ("web", Scope::Predict),
        ("operator", Scope::Admin),
        ("publisher", Scope::Publish),
    ] {
        keys.token(name, scope);
    }
    let setting = keys.tokens_setting();
    let service = Service::start(&ServiceOptions {
        set: &[&setting],
        ..ServiceOptions::default()
    });
    let channel = async |port, token| {
        let credentials = keys.plain_client(Some(token));
        let channel = credentials.connect(&service.address(port)).await;
        channel.expect("it connects")
    };
    let upload = tokio_stream::iter(Artifact::new(1).upload());
    let mut publisher = PublisherServiceClient::new(channel("admin", "publisher").await);
    publisher.publish(upload).await.expect("it is published");

    let unload = async |token| {
        let mut client = GrpcInferenceServiceClient::new(channel("grpc", token).await);
        let request = RepositoryModelUnloadRequest {
            model_name: MODEL.to_owned(),
            ..RepositoryModelUnloadRequest::default()
        };
        client.repository_model_unload(request).await
    };
    let load = async |token| {
        let mut client = GrpcInferenceServiceClient::new(channel("grpc", token).await);
        let request = RepositoryModelLoadRequest {
            model_name: MODEL.to_owned(),
            ..RepositoryModelLoadRequest::default()
        };
        client.repository_model_load(request).await
    };
    let refused = [unload("web").await.map(drop), load("web").await.map(drop)];
    for refused in refused {
        let status = refused.expect_err("it may only predict");
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    unload("operator").await.expect("it is unloaded");
    load("operator").await.expect("it is loaded");
}
