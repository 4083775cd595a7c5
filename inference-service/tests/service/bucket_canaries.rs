//! Canaries in a model store in a bucket.

use proto::{
    inference::{
        ModelInferRequest, RepositoryModelUnloadRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    publish::v1::PublishHeader,
};
use test_support::Bucket;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    buckets::{comes_to_serve, start_with},
    canaries::{QUICK, SLOW, canary_metric, load, publish_canary, publish_with_share, trials},
    support::{Artifact, MODEL, PATIENCE, infer_request, publish, upload, wait_until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_in_a_bucket_loads_nothing_at_another_service_which_can_delete_it() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let trying = start_with(&bucket, folder.path(), "trying", 60, &SLOW);
    let other = start_with(&bucket, folder.path(), "other", 60, &[]);
    publish(&trying, &Artifact::constant(1)).await;
    comes_to_serve(&other, 1).await;
    let unload = RepositoryModelUnloadRequest {
        model_name: MODEL.to_owned(),
        ..RepositoryModelUnloadRequest::default()
    };
    let mut admin = GrpcInferenceServiceClient::new(other.channel("admin").await);
    let unloaded = admin.repository_model_unload(unload).await;
    unloaded.expect("it is unloaded");
    publish_canary(&trying, &Artifact::constant(2), 0.5).await;
    // The other service takes changes in the order of the models' names, so it has seen the canary once it serves this.
    let later = Artifact::constant(3);
    let header = PublishHeader {
        model_name: "letters".to_owned(),
        ..later.header()
    };
    let published = trying.publish(upload(header, &later.onnx)).await;
    published.expect("it is published");
    let letters = ModelInferRequest {
        model_name: "letters".to_owned(),
        ..infer_request(1).0
    };
    let follows = async { while other.infer(letters.clone()).await.is_err() {} };
    timeout(PATIENCE, follows).await.expect("it follows");
    let refused = other.infer(infer_request(1).0).await;
    let refused = refused.expect_err("it is unloaded");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");

    other.delete(MODEL, 2).await.expect("it is deleted");
    wait_until(|| trials(&trying, "withdrawn") >= 1.0);
    for _ in 0..4 {
        assert_eq!(trying.serving_version().await, "1");
    }
    // Another version loads the model.
    let third = publish_with_share(&trying, &Artifact::constant(3), 0.0).await;
    assert_eq!(third.expect("it is published").active_version, 3);
    comes_to_serve(&other, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_passes_while_the_bucket_does_not_answer_is_promoted_later() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let service = start_with(&bucket, folder.path(), "trying", 2, &QUICK);
    let published = async {
        // A slow machine may answer too late.
        for (artifact, share) in [(Artifact::constant(1), 0.0), (Artifact::constant(2), 0.5)] {
            while let Err(status) = publish_with_share(&service, &artifact, share).await {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
            }
        }
    };
    timeout(PATIENCE, published).await.expect("both are stored");
    assert_eq!(canary_metric(&service, "retort_canary_version"), 2.0);

    bucket.stall();
    let load = load(&service).await;
    service.log_once(|log| log.contains("the canary cannot be activated yet"));
    load.answers(20).await;
    assert_eq!(canary_metric(&service, "retort_canary_version"), 2.0);
    assert_eq!(trials(&service, "rolled_back"), 0.0);
    bucket.restore();
    wait_until(|| trials(&service, "promoted") >= 1.0);
    assert!(load.end().await > 0);
    comes_to_serve(&service, 2).await;
}
