//! Checks without a publish, and warnings.

use proto::publish::v1::{
    CheckPublishHeader, CheckPublishRequest, CheckPublishResponse, PublishHeader,
    check_publish_request::Part,
};
use tonic::{Code, Status};

use crate::support::{Artifact, Service, ServiceOptions, listed, publish};

/// Calls `CheckPublish`.
pub async fn check(
    service: &Service,
    header: PublishHeader,
    onnx: &[u8],
    largest_manifest_bytes: u64,
) -> Result<CheckPublishResponse, Status> {
    let header = CheckPublishHeader {
        header: Some(header),
        largest_manifest_bytes,
    };
    let parts = [Part::Header(header), Part::Chunk(onnx.to_vec().into())];
    let requests = parts.map(|part| CheckPublishRequest { part: Some(part) });
    let mut publisher = service.publisher().await;
    let response = publisher
        .check_publish(tokio_stream::iter(requests))
        .await?;
    Ok(response.into_inner())
}

#[tokio::test]
async fn a_check_has_the_result_of_a_publish_and_changes_nothing() {
    let settings = ["publish.max_manifest_bytes=100000"];
    let service = Service::start(&ServiceOptions {
        set: &settings,
        ..ServiceOptions::default()
    });
    let good = Artifact::new(1);
    // The check accepts logits of untrained weights.
    let mut untrained = good.clone();
    untrained.manifest["golden_batch"]["logits"][0][0] = 1e6.into();
    let passed = check(&service, untrained.header(), &good.onnx, 100_000).await;
    assert_eq!(passed.unwrap().warnings, Vec::<String>::new());

    let error = check(&service, good.header(), &good.onnx, 100_001)
        .await
        .unwrap_err();
    assert!(error.message().contains("100000"), "{error}");
    let unnamed = PublishHeader {
        model_name: "a/b".to_owned(),
        ..good.header()
    };
    let mut classes = good.clone();
    classes.manifest["class_names"] = serde_json::json!(["a", "b"]);
    let mut interface = good.clone();
    interface.manifest["signature"]["inputs"][0]["dimensions"] =
        serde_json::json!(["batch", 1, 4, 16]);
    for (header, part) in [
        (unnamed, "is not a model name"),
        (classes.header(), "signature.outputs"),
        (interface.header(), "signature: is"),
    ] {
        let error = check(&service, header, &good.onnx, 0).await.unwrap_err();
        assert!(error.message().contains(part), "{part} is not in: {error}");
        assert_ne!(error.code(), Code::Unimplemented);
    }
    assert_eq!(listed(&service).await, []);
}

#[tokio::test]
async fn other_class_names_are_published_with_a_warning() {
    let service = Service::start(&ServiceOptions::default());
    let first = Artifact::new(1);
    publish(&service, &first).await;
    for (names, expected) in [
        (["zero", "one", "two"], None),
        (
            ["two", "one", "zero"],
            Some("the same names in another order"),
        ),
        (
            ["two", "one", "none"],
            Some("only the new version has \"none\"; only the active one has \"zero\""),
        ),
    ] {
        let mut next = Artifact::new(2);
        next.manifest["class_names"] = serde_json::json!(names);
        let checked = check(&service, next.header(), &next.onnx, 0).await.unwrap();
        let published = service.publish(next.upload()).await.unwrap();
        assert_eq!(published.warnings, checked.warnings);
        match (expected, &published.warnings[..]) {
            (None, []) => {}
            (Some(expected), [warning]) => {
                let before = format!("version {} of", published.version - 1);
                assert!(
                    warning.contains(expected) && warning.contains(&before),
                    "{warning}"
                );
            }
            (_, warnings) => panic!("{names:?}: {warnings:?}"),
        }
    }
}
