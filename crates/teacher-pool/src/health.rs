//! Checks whether a teacher serves, by `grpc.health.v1`: an open port does not prove it.

use std::time::Duration;

use proto::teacher::v1::teacher_service_server::SERVICE_NAME;
use server::security::client::Channel;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

/// Time between two health checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Time limit of a health check of an idle teacher.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks once. A server without the health service counts as healthy, as gRPC's document on health checking specifies;
/// other calls show whether it is a teacher.
///
/// # Errors
/// Why the teacher does not serve, in words for the user.
pub(crate) async fn check(channel: Channel) -> Result<(), String> {
    match HealthClient::new(channel).check(request()).await {
        Ok(response) => require_serving(response.into_inner().status()),
        Err(status) if status.code() == Code::Unimplemented => Ok(()),
        Err(status) => Err(format!("failed the health check: {}", status.message())),
    }
}

/// Waits until the teacher reports that it does not serve any more; returns its status in words. It never returns if
/// the connection breaks: the stream of soft targets reports that.
pub(crate) async fn until_not_serving(channel: Channel) -> String {
    match watch(channel).await {
        Ok(reason) => reason,
        Err(_) => std::future::pending().await,
    }
}

/// Checks the teacher every few seconds until it does not answer; returns the reason in words. `has_answered`: whether the
/// server answered a check on this connection before.
///
/// HTTP/2 pings do not serve this purpose: gRPC servers close a connection that sends them this often. Any answer
/// counts, an error too. If a server has answered no check on this connection, its silence proves nothing: streams may
/// occupy all its threads.
pub(crate) async fn until_unresponsive(channel: Channel, mut has_answered: bool) -> String {
    loop {
        match timeout(CHECK_TIMEOUT, check(channel.clone())).await {
            Ok(_) => has_answered = true,
            Err(_) if has_answered => {
                return format!("no answer to a health check within {CHECK_TIMEOUT:?}");
            }
            Err(_) => {}
        }
        sleep(CHECK_INTERVAL).await;
    }
}

async fn watch(channel: Channel) -> Result<String, Status> {
    let mut statuses: Streaming<HealthCheckResponse> = HealthClient::new(channel)
        .watch(request())
        .await?
        .into_inner();
    while let Some(response) = statuses.message().await? {
        if let Err(reason) = require_serving(response.status()) {
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

fn require_serving(status: ServingStatus) -> Result<(), String> {
    match status {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("reports {}", other.as_str_name())),
    }
}
