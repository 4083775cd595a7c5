//! The client side of `grpc.health.v1`.

use std::time::Duration;

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::security::client::Credentials;

/// Asks the server at `address` once, within `timeout`, whether it is SERVING as a whole.
///
/// # Errors
/// A message that names the address and says why the server is not SERVING.
pub async fn check_health(
    credentials: &Credentials,
    address: &str,
    timeout: Duration,
) -> Result<(), String> {
    let check = async {
        let channel = credentials
            .connect(address)
            .await
            .map_err(|error| format!("cannot connect to {address}: {error}"))?;
        let response = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await
            .map_err(|status| format!("{address} answered: {}", credentials.reason(&status)))?
            .into_inner();
        match response.status() {
            ServingStatus::Serving => Ok(()),
            other => Err(format!("{address} is {}", other.as_str_name())),
        }
    };
    tokio::time::timeout(timeout, check)
        .await
        .unwrap_or_else(|_| Err(format!("{address} did not answer within {timeout:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_without_a_server_names_the_address() {
        // A host of its own: its port cannot be given to another test meanwhile.
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = check_health(&Credentials::default(), &address, Duration::from_secs(5)).await;
        assert!(error.unwrap_err().contains(&address));
    }
}
