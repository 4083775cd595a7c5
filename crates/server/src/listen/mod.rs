//! Where services listen, and how connections come in.

mod activity;
mod arrival;
mod calls;
mod connection;
mod framing;
pub mod http1;
pub mod http2;
mod listener;
mod patience;
mod places;
mod socket;
mod tracked;

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub use arrival::{ArrivalLimit, InTime, InTimeOnly};
pub use calls::{Calls, CallsLayer, Counted};
pub use listener::{Listener, Peer};

/// Who may use a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Callers on this machine; from elsewhere only those who show a token or a certificate. Where
    /// the service has tokens, or asks for certificates, everybody must show them.
    ThisMachineOnly,
    /// Anyone: nobody is asked for credentials.
    AnyoneWhoReachesThePort,
}

/// Listens on `address`, which stands at `key` in the configuration; with the port that was taken
/// where it names port 0.
///
/// # Errors
/// When the port is taken, or the address is not this machine's.
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

/// A port is taken, or the address is not this machine's.
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
