//! Who may use a service, and how clients prove that they may: TLS, client certificates and bearer
//! tokens, the same for every service and for gRPC and HTTP alike.
//!
//! A service reads its certificates and tokens with [`Security::load`] and opens every port with
//! [`Security::bind`]. A client reaches it with [`Credentials::connect`](client::Credentials).
//!
//! - [`tls`] reads certificates and keys; [`tokens_file`] holds the hashes of tokens.
//! - [`rules`] says what each path asks for, [`layer`] asks for it and [`refusal`] says no.
//! - [`reload`] makes certificates and tokens anew when their files change, and [`staleness`] says where
//!   that has not worked yet.

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
    /// File with the hashes of the tokens that callers must show one of; see [`tokens_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
}

/// A port, as a service's configuration describes it.
#[derive(Debug, Clone, Copy)]
pub struct ListenConfig {
    /// Table of the configuration: `grpc`, with the keys `grpc.listen` and `grpc.access`.
    pub table: &'static str,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may use it.
    pub access: PortAccess,
}

impl ListenConfig {
    /// Whether only one of the two can be opened. Port 0 is any free port.
    fn collides(&self, other: &Self) -> bool {
        let (own, other) = (self.listen, other.listen);
        let every = own.ip().is_unspecified() || other.ip().is_unspecified();
        let same_family = own.is_ipv4() == other.is_ipv4();
        own.port() != 0
            && own.port() == other.port()
            && (own.ip() == other.ip() || every && same_family)
    }
}

/// What a service's ports share: its certificate and the tokens it accepts.
#[derive(Debug, Default)]
pub struct Security {
    tls: Option<ServerTls>,
    tokens: Option<Reloaded<Tokens>>,
    staleness: Staleness,
}

/// A port with its guards: connections come from `listener`, `layer` goes around the services.
#[derive(Debug)]
pub struct GuardedPort {
    /// Accepts connections, over TLS where the service has a certificate.
    pub listener: Listener,
    /// Asks every call for its token.
    pub layer: AuthLayer,
    /// Where it listens, with port 0 resolved.
    pub address: SocketAddr,
}

/// Why a port cannot be opened as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// Of `[grpc.tls]`.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Of `[auth]`.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The port is taken, or the address is not this machine's.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Adds everything that is wrong with the certificates, the tokens and the `ports` of a service
/// whose certificate stands at `grpc.tls`: files that cannot be used, and ports that other machines
/// can reach although it requires no credentials and no `access` says so in words. Also two
/// ports of one address.
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
    let asks_for_credentials =
        auth.tokens_file.is_some() || tls.is_some_and(|tls| tls.client_ca.is_some());
    for ListenConfig {
        table,
        listen,
        access,
    } in ports
    {
        problems.require(
            listen.ip().is_loopback()
                || asks_for_credentials
                || *access == PortAccess::AnyoneWhoReachesThePort,
            &format!("{table}.listen"),
            listen,
            &format!(
                "can be reached from other machines, and nobody is asked for credentials: use a \
                 loopback address, set auth.tokens_file or grpc.tls.client_ca, or say \
                 {table}.access = \"anyone_who_reaches_the_port\""
            ),
        );
    }
}

impl Security {
    /// Reads what the configuration names. Must be called within a tokio runtime: files that change
    /// later are read again.
    ///
    /// # Errors
    /// The file that cannot be used; [`validate`] finds the same ones.
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

    /// Which files cannot be used in their present state; for the metrics.
    pub fn staleness(&self) -> Staleness {
        self.staleness.clone()
    }

    /// Listens at `port`, behind TLS and `rules`. Where its `access` lets anyone in, no client
    /// certificate and no token is asked for; the certificate of the service is shown all the same.
    ///
    /// # Errors
    /// When the port is taken, or a certificate or key cannot be used.
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
            info!(port = table, tls, client_certificates, tokens, "guarded");
        }
        if listen.ip().is_loopback() {
            return;
        }
        if !tokens && !client_certificates {
            warn!(port = table, %listen, "open to anyone who reaches the port");
        } else if !tls {
            warn!(
                port = table, %listen,
                "tokens reach this port in plain text; set [grpc.tls] unless the network is yours"
            );
        }
    }
}

#[cfg(test)]
mod tests;
