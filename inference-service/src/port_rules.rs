//! The token scopes that the calls of each port require.

use server::security::{Requirement, Rules, Scope};

use crate::config::ModelControl;

/// The rules of the gRPC port.
pub(crate) fn grpc(model_control: ModelControl) -> Rules {
    match model_control {
        ModelControl::AdminToken => Rules::grpc(&[Scope::Predict], MODEL_CONTROL),
        ModelControl::EveryCaller => Rules::grpc(&[Scope::Predict], &[]),
    }
}

/// Methods of the gRPC port that load and unload models.
const MODEL_CONTROL: &[(&str, Requirement)] = &[
    (
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        Requirement::OneOf(&[Scope::Admin]),
    ),
    (
        "/inference.GRPCInferenceService/RepositoryModelUnload",
        Requirement::OneOf(&[Scope::Admin]),
    ),
];

/// The rules of the HTTP port. Load balancers check health without a token.
pub(crate) const HTTP: Rules =
    Rules::http(&[Scope::Predict], &[("/v2/health/", Requirement::Nothing)]);

/// The rules of the admin port. Clients that publish or predict may also list the versions.
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
    fn publishing_and_activating_are_different_rights() {
        for (call, scopes) in [
            ("Publish", &[Scope::Publish][..]),
            ("CheckPublish", &[Scope::Publish]),
            ("ActivateVersion", &[Scope::Admin]),
            ("DeleteVersion", &[Scope::Admin]),
            ("DeleteModel", &[Scope::Admin]),
        ] {
            let requirement = ADMIN.requirement(&format!("/{SERVICE_NAME}/{call}"));
            assert_eq!(requirement, Requirement::OneOf(scopes), "{call}");
        }
    }

    #[test]
    fn loading_at_the_grpc_port_is_for_administrators_unless_configured() {
        let (admin, predict) = (&[Scope::Admin][..], &[Scope::Predict][..]);
        for (call, by_default, opened) in [
            ("RepositoryModelLoad", admin, predict),
            ("RepositoryModelUnload", admin, predict),
            ("RepositoryIndex", predict, predict),
            ("ModelInfer", predict, predict),
        ] {
            let path = format!("/inference.GRPCInferenceService/{call}");
            for (control, scopes) in [
                (ModelControl::AdminToken, by_default),
                (ModelControl::EveryCaller, opened),
            ] {
                let requirement = grpc(control).requirement(&path);
                assert_eq!(requirement, Requirement::OneOf(scopes), "{call}");
            }
        }
    }
}
