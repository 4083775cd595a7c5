//! Listing, activating, rolling back and deleting versions.

use proto::publish::v1::ListVersionsRequest;
use tonic::Code;

use crate::support::{Artifact, MODEL, Service, ServiceOptions, infer_request, listed, publish};

fn start() -> Service {
    Service::start(&ServiceOptions::default())
}

#[tokio::test]
async fn versions_are_activated_rolled_back_and_deleted() {
    let service = start();
    for seed in 1..=3 {
        publish(&service, &Artifact::new(seed)).await;
    }
    assert_eq!(service.activate(MODEL, 1).await.unwrap(), 3);
    assert_eq!(service.serving_version().await, "1");
    assert_eq!(service.activate(MODEL, 1).await.unwrap(), 1);

    let active = service.delete(MODEL, 1).await.expect_err("it serves");
    assert_eq!(active.code(), Code::FailedPrecondition);
    assert!(active.message().contains("version 1 is active"), "{active}");
    service.delete(MODEL, 3).await.unwrap();
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    for result in [
        service.delete(MODEL, 3).await,
        service.activate(MODEL, 3).await.map(drop),
    ] {
        assert_eq!(result.expect_err("it is gone").code(), Code::NotFound);
    }
    let unknown = service
        .activate("cats", 1)
        .await
        .expect_err("there is no such model");
    assert_eq!(unknown.code(), Code::NotFound);
    let path = service
        .activate("../digits", 1)
        .await
        .expect_err("it is no name");
    assert_eq!(path.code(), Code::InvalidArgument);
    // Numbers of deleted versions are not reused.
    assert_eq!(publish(&service, &Artifact::new(4)).await, (4, false));

    let counted: Vec<_> = service
        .statistics()
        .await
        .into_iter()
        .map(|statistics| (statistics.version, statistics.inference_count))
        .collect();
    let expected = [("1", 1), ("2", 0), ("3", 0), ("4", 0)];
    assert_eq!(
        counted,
        expected.map(|(version, count)| (version.to_owned(), count))
    );
}

#[tokio::test]
async fn listings_may_omit_manifests_or_select_a_version() {
    let service = start();
    let artifacts = [Artifact::new(1), Artifact::new(2)];
    for artifact in &artifacts {
        publish(&service, artifact).await;
    }
    let list = async |version, omit_manifests| {
        let request = ListVersionsRequest {
            model_name: MODEL.to_owned(),
            version,
            omit_manifests,
        };
        let response = service.publisher().await.list_versions(request).await;
        response.expect("versions are listed").into_inner().versions
    };
    let whole = service.versions().await;
    assert_eq!(list(0, false).await, whole);
    assert_eq!(whole[0].manifest_json, artifacts[0].parsed().to_json());
    assert_eq!(list(2, false).await, whole[1..]);
    let mut short = whole;
    for version in &mut short {
        version.manifest_json.clear();
    }
    assert_eq!(list(0, true).await, short);
    assert_eq!(list(1, true).await, short[..1]);
    assert!(list(3, false).await.is_empty());
}

#[tokio::test]
async fn a_deleted_model_may_be_published_again() {
    let models = tempfile::tempdir().unwrap();
    let options = ServiceOptions {
        store: Some(models.path()),
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    publish(&service, &Artifact::constant(1)).await;
    publish(&service, &Artifact::constant(2)).await;
    let version_only = service.delete(MODEL, 2).await.expect_err("it is active");
    assert!(version_only.message().contains("--all"), "{version_only}");
    for bad in ["", "../digits"] {
        let status = service.delete_model(bad).await.expect_err("it is no name");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(service.delete_model(MODEL).await.unwrap(), [1, 2]);
    for status in [
        service.infer(infer_request(1).0).await.map(drop),
        service.delete_model(MODEL).await.map(drop),
        service.activate(MODEL, 1).await.map(drop),
    ] {
        assert_eq!(status.expect_err("it is gone").code(), Code::NotFound);
    }
    assert!(service.versions().await.is_empty());
    assert!(service.statistics().await.is_empty());
    assert!(!models.path().join(MODEL).exists());
    assert!(!service.metrics().contains(MODEL));
    drop(service);

    let service = Service::start(&options);
    assert!(service.versions().await.is_empty());
    // Numbers of deleted versions are not reused, because clients may still use them.
    assert_eq!(publish(&service, &Artifact::constant(3)).await, (3, false));
    assert_eq!(service.serving_version().await, "3");
}

/// The requests were accepted before the deletion, and wait for a batch that does not fill.
#[tokio::test]
async fn requests_in_flight_on_a_deleted_model_are_answered() {
    let service = Service::start(&ServiceOptions {
        set: &["batching.max_queue_delay_microseconds=1000000"],
        ..ServiceOptions::default()
    });
    publish(&service, &Artifact::constant(1)).await;
    let mut client = service.inference().await;
    let call = tokio::spawn(async move { client.model_infer(infer_request(1).0).await });
    let pending =
        format!("nv_inference_pending_request_count{{model=\"{MODEL}\",version=\"1\"}} 1");
    while !call.is_finished() && !service.metrics().lines().any(|line| line == pending) {
        tokio::task::yield_now().await;
    }
    service.delete_model(MODEL).await.expect("it is deleted");
    let answer = call.await.expect("it ends").expect("it is answered");
    assert_eq!(answer.get_ref().model_version, "1");
}
