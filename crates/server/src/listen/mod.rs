//! Listening ports: accepting, limiting and serving connections.

mod activity;
mod arrival;
mod arrival_timer;
mod calls;
mod connection;
mod framing;
pub mod http1;
pub mod http2;
mod listener;
mod slots;
mod socket;
mod tracked;

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub use arrival::{ArrivalLimit, ArrivalLimited, TimedUnit};
pub use calls::{Calls, CallsLayer, Counted};
pub use listener::{Listener, Peer};

/// Who may use a port: the key `access` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortAccess {
    /// Callers on this machine, and callers on other machines that show a token or a certificate. If the
    /// service has tokens, or requires certificates, all callers must show them.
    ThisMachineOnly,
    /// All callers, without credentials.
    AnyoneWhoReachesThePort,
}

/// Listens on `address`, the value of `key` in the configuration. The returned address contains the real
/// port if `address` has port 0.
///
/// # Errors
/// If the port is in use, or the address is not one of this machine.
pub async fn bind(
    key: impl Into<String>,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen.await.map_err(|source| ListenError {
        key: key.into(),
        address,
        source,
    })
}

/// The port is in use, or the address is not one of this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key}): {source}")]
pub struct ListenError {
    key: String,
    address: SocketAddr,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_key() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (_listener, taken) = bind("grpc.listen", any).await.unwrap();
        assert_ne!(taken.port(), 0);
        let error = bind("grpc.listen", taken).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{taken} (grpc.listen)")), "{error}");
    }
}
