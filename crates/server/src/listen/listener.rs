//! Accepts connections, and does the TLS handshake where there is one.

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

/// Handshakes at a time; more clients wait in the operating system's queue.
const MAX_HANDSHAKES: usize = 256;
/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After the operating system could not give a connection, most likely for lack of file handles.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(500);

/// A port that connections come from, for [`http1::serve`](super::http1::serve) and
/// [`http2::serve`](super::http2::serve).
///
/// Each handshake that fails, and each client that speaks TLS where plain text is spoken, is logged
/// once, with its address and the reason. Slow clients hold nobody up.
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
    /// Connections of `listener`, over TLS where there is a configuration. `port` stands in logs.
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

    /// The port, as logs name it.
    pub(super) fn port(&self) -> &'static str {
        self.port
    }

    /// The next connection that is ready for use.
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
    // Of the one client, which has gone again.
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    warn!(port, %error, "cannot accept connections; trying again");
    sleep(PAUSE_AFTER_ERROR).await;
}

/// `None`, after a line in the log, where the handshake fails.
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
            // Load balancers look whether a port is open.
            debug!(port, %peer, "hung up before the TLS handshake was done");
            return None;
        }
        Ok(Err(error)) => reason(&error),
        Err(_) => format!("the TLS handshake was not done within {HANDSHAKE_TIMEOUT:?}"),
    };
    warn!(port, %peer, reason, "connection refused");
    None
}

/// Why a handshake failed, in words for whoever reads the log.
fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    let words = match tls {
        Some(TlsError::NoCertificatesPresented) => "the client shows no certificate",
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "plain text on a port that speaks TLS"
        }
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "the client's certificate has expired",
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the client's certificate comes from an authority that is not trusted"
        }
        Some(TlsError::AlertReceived(alert)) => {
            return format!("the client refuses this server's certificate or TLS: {alert:?}");
        }
        Some(_) | None => return error.to_string(),
    };
    words.to_owned()
}
