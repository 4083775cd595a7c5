//! Where services listen, and who may reach them.

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::config::Problems;

/// Who may use a port that asks for no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only loopback addresses are listened on.
    ThisMachineOnly,
    /// Any address may be listened on.
    AnyoneWhoReachesThePort,
}

impl Access {
    /// Adds a problem with `listen_key` where other machines can reach `listen`, unless `self`,
    /// which stands at `access_key`, says in words that they may.
    pub fn validate(
        self,
        access_key: &str,
        listen_key: &str,
        listen: SocketAddr,
        problems: &mut Problems,
    ) {
        problems.require(
            listen.ip().is_loopback() || self == Self::AnyoneWhoReachesThePort,
            listen_key,
            listen,
            &format!(
                "can be reached from other machines, and there is no authentication: use a \
                 loopback address, or say {access_key} = \"anyone_who_reaches_the_port\""
            ),
        );
    }
}

/// Listens on `address`, which stands at `key` in the configuration; with the port that was taken
/// where it names port 0.
///
/// # Errors
/// When the port is taken, or the address is not this machine's.
pub async fn bind(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen.await.map_err(|source| ListenError {
        key,
        address,
        source,
    })
}

/// A port is taken, or the address is not this machine's.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key}): {source}")]
pub struct ListenError {
    key: &'static str,
    address: SocketAddr,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_let_in_only_by_words() {
        for (listen, access, refused) in [
            ("127.0.0.1:1", Access::ThisMachineOnly, false),
            ("[::1]:1", Access::ThisMachineOnly, false),
            ("0.0.0.0:1", Access::ThisMachineOnly, true),
            ("[::]:1", Access::ThisMachineOnly, true),
            ("192.168.1.1:1", Access::ThisMachineOnly, true),
            ("0.0.0.0:1", Access::AnyoneWhoReachesThePort, false),
        ] {
            let mut problems = Problems::default();
            let address = listen.parse().unwrap();
            access.validate("grpc.access", "grpc.listen", address, &mut problems);
            assert_eq!(!problems.is_empty(), refused, "{listen} {access:?}");
            let told = problems.to_string();
            assert_eq!(told.contains(&format!("grpc.listen = {listen}")), refused);
            assert_eq!(told.contains("say grpc.access = "), refused);
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_key() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (_listener, taken) = bind("grpc.listen", any).await.unwrap();
        assert_ne!(taken.port(), 0);
        let error = bind("grpc.listen", taken).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{taken} (grpc.listen)")), "{error}");
    }
}
