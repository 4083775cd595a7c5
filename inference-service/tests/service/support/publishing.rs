//! Publishes models and lists their versions.

use proto::publish::v1::{PublishHeader, PublishResponse};

use super::{Artifact, Service, upload};

/// Publishes a model. Returns its version and whether it was stored already.
pub async fn publish(service: &Service, artifact: &Artifact) -> (u64, bool) {
    let published = service
        .publish(artifact.upload())
        .await
        .expect("it is published");
    (published.version, published.already_published)
}

/// Publishes with `keep_active`. Returns the version, whether it was stored already, and the version that serves.
pub async fn publish_keeping_active(service: &Service, artifact: &Artifact) -> (u64, bool, u64) {
    let header = PublishHeader {
        keep_active: true,
        ..artifact.header()
    };
    let published = service.publish(upload(header, &artifact.onnx)).await;
    let published = published.expect("it is published");
    let PublishResponse {
        version,
        already_published,
        active_version,
        ..
    } = published;
    (version, already_published, active_version)
}

/// Numbers of all versions, and whether each is active.
pub async fn listed(service: &Service) -> Vec<(u64, bool)> {
    let versions = service.versions().await;
    versions
        .iter()
        .map(|version| (version.version, version.active))
        .collect()
}
