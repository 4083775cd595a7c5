//! Authentication and authorization, the same for all services and for gRPC and HTTP: TLS, client
//! certificates and bearer tokens.
//!
//! A service reads its certificates and tokens with [`Security::load`] and opens every port with
//! [`Security::bind`]. A client connects with [`Credentials::connect`](client::Credentials).
//!
//! - [`tls`] reads certificates and keys; [`tokens_file`] reads and writes the hashes of tokens.
//! - [`rules`] defines what each path requires, [`layer`] enforces it, and [`refusal`] is the answer to a
//!   refused call.
//! - [`reload`] reads certificates and tokens again when their files change; [`staleness`] reports the files
//!   that cannot be used.

pub mod client;
mod layer;
mod refusal;
mod reload;
mod rules;
mod scope;
mod staleness;
pub mod tls;
mod token;
pub mod tokens_file;

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::listen::{self, ListenError, Listener, PortAccess};
use common::config::Problems;

pub use layer::{AuthLayer, Authorized, Caller};
pub use refusal::Refusal;
pub use rules::{Protocol, Requirement, Rules};
pub use scope::Scope;
pub use staleness::Staleness;
pub use token::{InvalidToken, Token};

pub(crate) use reload::Reloaded;
use tls::{ServerTls, TlsError};
use tokens_file::{Tokens, TokensError};

/// The `[auth]` table of a service's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// File with the hashes of the tokens that the service accepts; see [`tokens_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
}

/// A port in a service's configuration.
#[derive(Debug, Clone, Copy)]
pub struct ListenConfig {
    /// Its table in the configuration: `grpc`, with the keys `grpc.listen` and `grpc.access`.
    pub table: &'static str,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Who may use it.
    pub access: PortAccess,
}

impl ListenConfig {
    /// Whether both ports cannot be open at the same time. Port 0 is any free port.
    fn collides(&self, other: &Self) -> bool {
        let (own, other) = (self.listen, other.listen);
        let unspecified = own.ip().is_unspecified() || other.ip().is_unspecified();
        let same_family = own.is_ipv4() == other.is_ipv4();
        own.port() != 0
            && own.port() == other.port()
            && (own.ip() == other.ip() || unspecified && same_family)
    }
}

/// The certificate of a service and the tokens that it accepts, for all its ports.
#[derive(Debug, Default)]
pub struct Security {
    tls: Option<ServerTls>,
    tokens: Option<Reloaded<Tokens>>,
    staleness: Staleness,
}

/// An open port: accept connections from `listener`, and put `layer` around the services.
#[derive(Debug)]
pub struct GuardedPort {
    /// Accepts connections, over TLS if the service has a certificate.
    pub listener: Listener,
    /// Checks the token of each call.
    pub layer: AuthLayer,
    /// The address, with the real port instead of port 0.
    pub address: SocketAddr,
}

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file of `[grpc.tls]` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of `[auth]` cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The port is in use, or the address is not one of this machine.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Adds all problems of a service's certificate (table `grpc.tls`), tokens and `ports`: files that cannot be
/// used, two ports with one address, and ports reachable from other machines without credentials and without
/// an `access` that opens them explicitly.
pub fn validate(
    tls: Option<&ServerTls>,
    auth: &AuthConfig,
    ports: &[ListenConfig],
    problems: &mut Problems,
) {
    if let Some(tls) = tls {
        tls.validate("grpc.tls", problems);
    }
    if let Some(file) = &auth.tokens_file
        && let Err(error) = Tokens::load(file)
    {
        problems.add("auth.tokens_file", file.display(), &error.to_string());
    }
    for (position, port) in ports.iter().enumerate() {
        if let Some(other) = ports[..position].iter().find(|other| port.collides(other)) {
            let message = format!("is taken by {}.listen = {}", other.table, other.listen);
            problems.add(format!("{}.listen", port.table), port.listen, &message);
        }
    }
    let requires_credentials =
        auth.tokens_file.is_some() || tls.is_some_and(|tls| tls.client_ca.is_some());
    for ListenConfig {
        table,
        listen,
        access,
    } in ports
    {
        problems.require(
            listen.ip().is_loopback()
                || requires_credentials
                || *access == PortAccess::AnyoneWhoReachesThePort,
            &format!("{table}.listen"),
            listen,
            &format!(
                "is reachable from other machines and requires no credentials: use a loopback address, \
                 set auth.tokens_file or grpc.tls.client_ca, or set \
                 {table}.access = \"anyone_who_reaches_the_port\""
            ),
        );
    }
}

impl Security {
    /// Reads the files of the configuration. Must be called within a tokio runtime, which reads them again
    /// when they change.
    ///
    /// # Errors
    /// If a file cannot be used; [`validate`] finds the same files.
    pub fn load(tls: Option<&ServerTls>, auth: &AuthConfig) -> Result<Self, SecurityError> {
        let staleness = Staleness::default();
        let tokens = auth.tokens_file.clone().map(|file| {
            let files = vec![file.clone()];
            Reloaded::load("tokens", files, &staleness, move || Tokens::load(&file))
        });
        Ok(Self {
            tls: tls.cloned(),
            tokens: tokens.transpose()?,
            staleness,
        })
    }

    /// The stale files, for the metrics.
    pub fn staleness(&self) -> Staleness {
        self.staleness.clone()
    }

    /// Listens on `port` with TLS and `rules`. A port that is open to all callers uses the service's
    /// certificate, but requires neither client certificates nor tokens.
    ///
    /// # Errors
    /// If the port is in use, or a certificate or key cannot be used.
    pub async fn bind(
        &self,
        port: ListenConfig,
        rules: Rules,
    ) -> Result<GuardedPort, SecurityError> {
        let key = format!("{}.listen", port.table);
        let (listener, address) = listen::bind(key, port.listen).await?;
        let open = port.access == PortAccess::AnyoneWhoReachesThePort;
        let tokens = self.tokens.clone().filter(|_| !open);
        let client_certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let client_certificates = client_certificates && !open;
        let tls = self.tls.clone().map(|tls| {
            let alpn = rules.protocol().alpn();
            Reloaded::load("certificates", tls.files(), &self.staleness, move || {
                tls.load(alpn, client_certificates)
            })
        });
        let tls = tls.transpose()?;
        self.announce(port, client_certificates, tokens.is_some());
        Ok(GuardedPort {
            listener: Listener::new(listener, port.table, tls),
            layer: AuthLayer::new(port.table, rules, tokens),
            address,
        })
    }

    fn announce(&self, port: ListenConfig, client_certificates: bool, tokens: bool) {
        let ListenConfig { table, listen, .. } = port;
        let tls = self.tls.is_some();
        if tls || tokens {
            info!(
                port = table,
                tls, client_certificates, tokens, "port secured"
            );
        }
        if listen.ip().is_loopback() {
            return;
        }
        if !tokens && !client_certificates {
            warn!(port = table, %listen, "the port requires no credentials");
        } else if !tls {
            warn!(
                port = table, %listen,
                "clients send tokens to this port in plain text; set [grpc.tls] unless you trust the network"
            );
        }
    }
}

#[cfg(test)]
mod tests;
