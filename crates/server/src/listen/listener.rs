//! Accepts connections and performs TLS handshakes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{CertificateError, Error as TlsError, InvalidMessage, ServerConfig};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{
    connection::{Connection, PlainText},
    socket::Socket,
};
use crate::security::Reloaded;

/// Limit of concurrent handshakes; further clients wait in the operating system's queue.
const MAX_HANDSHAKES: usize = 256;
/// Longest time for a handshake; the listener drops slower clients.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the operating system could not accept a connection, usually for lack of file descriptors.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(500);

/// A listening port, for [`http1::serve`](super::http1::serve) and [`http2::serve`](super::http2::serve).
///
/// The listener logs each failed handshake, and each TLS client of a plain-text port, once, with address and
/// reason. Slow clients do not delay others.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    port: &'static str,
    tls: Option<Reloaded<ServerConfig>>,
    handshakes: JoinSet<Option<(Connection, Peer)>>,
}

/// The address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Listener {
    /// Uses TLS if there is a configuration. `port` is the name of the port in logs.
    pub(crate) fn new(
        listener: TcpListener,
        port: &'static str,
        tls: Option<Reloaded<ServerConfig>>,
    ) -> Self {
        Self {
            listener,
            port,
            tls,
            handshakes: JoinSet::new(),
        }
    }

    /// The name of the port in logs.
    pub(super) fn port(&self) -> &'static str {
        self.port
    }

    /// Waits for the next connection whose handshake is done.
    pub(super) async fn next(&mut self) -> (Connection, Peer) {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.handshakes.len() < MAX_HANDSHAKES => {
                    let (stream, peer) = match accepted {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            pause_after(&error, self.port).await;
                            continue;
                        }
                    };
                    let stream = Socket::new(stream);
                    let Some(tls) = &self.tls else {
                        let plain = PlainText::new(stream, self.port, peer);
                        return (Connection::Plain(plain), Peer(peer));
                    };
                    self.handshakes.spawn(handshake(tls.get(), stream, self.port, peer));
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }
}

async fn pause_after(error: &io::Error, port: &'static str) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // Only this client is affected: it has disconnected again.
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    warn!(port, %error, "cannot accept connections; retrying");
    sleep(PAUSE_AFTER_ERROR).await;
}

/// Performs the handshake; logs a failure and returns `None`.
async fn handshake(
    config: Arc<ServerConfig>,
    stream: Socket,
    port: &'static str,
    peer: SocketAddr,
) -> Option<(Connection, Peer)> {
    let accept = TlsAcceptor::from(config).accept(stream);
    let reason = match timeout(HANDSHAKE_TIMEOUT, accept).await {
        Ok(Ok(stream)) => return Some((Connection::Tls(Box::new(stream)), Peer(peer))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            // Usually a load balancer that checks whether the port is open.
            debug!(port, %peer, "the client disconnected before the end of the TLS handshake");
            return None;
        }
        Ok(Err(error)) => reason(&error),
        Err(_) => format!("the TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}"),
    };
    warn!(port, %peer, reason, "connection rejected");
    None
}

/// Why a handshake failed, for the log.
fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    let words = match tls {
        Some(TlsError::NoCertificatesPresented) => "the client sent no certificate",
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "plain text on a TLS port"
        }
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "the client's certificate has expired",
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the client's certificate is not from a trusted authority"
        }
        Some(TlsError::AlertReceived(alert)) => {
            return format!("the client rejected this server's certificate or TLS: {alert:?}");
        }
        Some(_) | None => return error.to_string(),
    };
    words.to_owned()
}
