//! Whether a teacher says that it serves, by `grpc.health.v1`: an open port is no proof.

use std::time::Duration;

use proto::teacher::v1::teacher_service_server::SERVICE_NAME;
use server::security::client::Channel;
use tokio::time::{sleep, timeout};
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
pub(crate) async fn check(channel: Channel) -> Result<(), String> {
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
pub(crate) async fn until_not_serving(channel: Channel) -> String {
    match watch(channel).await {
        Ok(reason) => reason,
        Err(_) => std::future::pending().await,
    }
}

/// Between two checks whether the teacher still answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Within this time an idle teacher answers a check.
pub(crate) const CHECK_TIME: Duration = Duration::from_secs(5);

/// Checks the teacher every few seconds until it does not answer; gives the reason in words.
///
/// Not by HTTP/2's pings: gRPC's servers close a connection on which they come this often. Any answer
/// will do. A server that has answered no check says nothing by its silence: all of its threads may be
/// taken by streams.
pub(crate) async fn until_silent(channel: Channel) -> String {
    let mut answers = false;
    loop {
        match timeout(CHECK_TIME, check(channel.clone())).await {
            Ok(_) => answers = true,
            Err(_) if answers => {
                return format!("no answer to a health check within {CHECK_TIME:?}");
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
