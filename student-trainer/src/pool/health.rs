//! Whether a teacher says that it serves, by `grpc.health.v1`: an open port is no proof.

use common::security::client::Channel;
use proto::teacher::v1::teacher_service_server::SERVICE_NAME;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

/// Asks once. A server that does not know the health service counts as healthy, as gRPC's document
/// on health checking has it: whether it is a teacher, it has to say by other means.
///
/// # Errors
/// Why it does not serve, for people.
pub(super) async fn check(channel: Channel) -> Result<(), String> {
    match HealthClient::new(channel).check(request()).await {
        Ok(response) => serving(response.into_inner().status()),
        Err(status) if status.code() == Code::Unimplemented => Ok(()),
        Err(status) => Err(format!(
            "does not say whether it serves: {}",
            status.message()
        )),
    }
}

/// Waits until the teacher says that it does not serve any more; gives its words. A connection that
/// breaks says nothing: the stream of soft targets tells of that.
pub(super) async fn until_not_serving(channel: Channel) -> String {
    match watch(channel).await {
        Ok(reason) => reason,
        Err(_) => std::future::pending().await,
    }
}

async fn watch(channel: Channel) -> Result<String, Status> {
    let mut statuses: Streaming<HealthCheckResponse> = HealthClient::new(channel)
        .watch(request())
        .await?
        .into_inner();
    while let Some(response) = statuses.message().await? {
        if let Err(reason) = serving(response.status()) {
            return Ok(reason);
        }
    }
    Err(Status::new(Code::Cancelled, "the watch ended"))
}

fn request() -> HealthCheckRequest {
    HealthCheckRequest {
        service: SERVICE_NAME.to_owned(),
    }
}

fn serving(status: ServingStatus) -> Result<(), String> {
    match status {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("says that it is {}", other.as_str_name())),
    }
}
