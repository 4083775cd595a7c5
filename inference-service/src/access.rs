//! Which scopes the calls of each port ask for.

use common::security::{Requirement, Rules, Scope};

/// The inference protocol.
pub(crate) const GRPC: Rules = Rules::grpc(&[Scope::Predict], &[]);

/// The same over HTTP; load balancers ask for health without a token.
pub(crate) const HTTP: Rules =
    Rules::http(&[Scope::Predict], &[("/v2/health/", Requirement::Nothing)]);

/// Publishing and versions. Whoever publishes, or predicts, may also ask what there is: `retort
/// predict` reads class names and normalization from a version's manifest.
pub(crate) const ADMIN: Rules = Rules::grpc(
    &[Scope::Admin],
    &[
        (
            "/retort.publish.v1.PublisherService/Publish",
            Requirement::OneOf(&[Scope::Publish]),
        ),
        (
            "/retort.publish.v1.PublisherService/CheckPublish",
            Requirement::OneOf(&[Scope::Publish]),
        ),
        (
            "/retort.publish.v1.PublisherService/ListVersions",
            Requirement::OneOf(&[Scope::Publish, Scope::Admin, Scope::Predict]),
        ),
    ],
);

#[cfg(test)]
mod tests {
    use proto::publish::v1::publisher_service_server::SERVICE_NAME;

    use super::*;

    #[test]
    fn publishing_and_choosing_are_different_rights() {
        for (call, scopes) in [
            ("Publish", &[Scope::Publish][..]),
            ("CheckPublish", &[Scope::Publish]),
            ("ActivateVersion", &[Scope::Admin]),
            ("DeleteVersion", &[Scope::Admin]),
        ] {
            let requirement = ADMIN.requirement(&format!("/{SERVICE_NAME}/{call}"));
            assert_eq!(requirement, Requirement::OneOf(scopes), "{call}");
        }
    }
}
