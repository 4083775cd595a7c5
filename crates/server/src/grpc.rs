//! Defaults of gRPC servers and clients: limits of HTTP/2, keepalive, statuses with error details.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::{
    Code, Status, TimeoutExpired,
    transport::{self, Channel, Endpoint},
};
use tonic_types::{ErrorDetails, StatusExt};
use tower_layer::{Identity, Stack};

use crate::listen::CallsLayer;

pub use proto::ERROR_DOMAIN;

/// HTTP/2 pings of a server notice a client that vanished without a word.
const SERVER_PING_INTERVAL: Duration = Duration::from_secs(5);
const SERVER_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls at a time on one connection. Proxies and asynchronous clients put all their calls on one; more
/// wait at the client.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// Calls that a client gave up before the server looked at them, at a time. When a server is held up
/// for a moment, the deadlines of all calls of a connection may pass: that is honest, so there may be as
/// many as calls. h2 closes the connection at one more, since a client that goes on opening and
/// resetting streams ("rapid reset", CVE-2023-44487) fills the memory otherwise: here it fills at most
/// 1,024 times the 16 KiB of a call's headers.
const MAX_PENDING_RESETS: usize = MAX_CONCURRENT_STREAMS as usize;

/// Streams that the server reset because of the client's errors, in the life of a connection: h2's own
/// default, written down so that it does not change by itself.
const MAX_ERROR_RESETS: usize = 1024;

/// Longest headers of a call, bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// TCP's own keepalive notices, at a client, that the server's host vanished: after 4 s of silence it
/// probes twice. While sent data is not acknowledged, TCP does not probe, but gives up after the
/// user timeout.
///
/// Not HTTP/2's pings: gRPC's servers close a connection on which pings come more often than every
/// five minutes without data (ENHANCE_YOUR_CALM, "too_many_pings"; see
/// <https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md>).
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(4);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const TCP_KEEPALIVE_PROBES: u32 = 2;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A server whose calls are counted by connection.
pub type Server = transport::Server<Stack<CallsLayer, Identity>>;

/// A server with the limits of HTTP/2 that every port has, with keepalive (tonic's default has none)
/// and without Nagle's delay; to be served by [`http2::serve`](crate::listen::http2::serve).
pub fn server() -> Server {
    transport::Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(SERVER_PING_INTERVAL))
        .http2_keepalive_timeout(Some(SERVER_PING_TIMEOUT))
        .layer(CallsLayer::default())
}

/// A client's endpoint for `address`, which is `host:port` or `http://host:port`.
///
/// # Errors
/// When `address` is no such thing; the text names it.
pub fn endpoint(address: &str) -> Result<Endpoint, InvalidAddress> {
    let url = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let endpoint = Endpoint::from_shared(url).map_err(|_| InvalidAddress(address.to_owned()))?;
    if endpoint.uri().port_u16().is_none() {
        return Err(InvalidAddress(address.to_owned()));
    }
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT))
}

/// Connects to `endpoint` once. The connection fails within seconds when the server's host vanishes.
///
/// # Errors
/// When there is no connection.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, transport::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(TCP_KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(TCP_KEEPALIVE_PROBES));
    tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    endpoint.connect_with_connector(tcp).await
}

/// An address that a client cannot use.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address; give host:port, for example 127.0.0.1:8001")]
pub struct InvalidAddress(String);

/// Longest message of a status, bytes. It travels twice in the headers, once with every space and
/// foreign letter written as three, and clients take 16 KiB of those.
const LONGEST_MESSAGE: usize = 3_000;

/// A status with an `ErrorInfo` whose `reason` programs can match on (UPPER_SNAKE_CASE). A long message
/// is cut: some repeat what a caller sent.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let mut message = message.into();
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
    Status::with_error_details(code, message, details)
}

/// What a call failed of: the server's words, or why the connection was lost before there were any.
pub fn reason(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => root_cause(source),
        None => status.message().to_owned(),
    }
}

/// Whether there was no answer of a server's: it is away, or the connection broke. What may be asked
/// twice, may then be asked again. A deadline that passed is none of these.
pub fn is_away(status: &Status) -> bool {
    // tonic's client keeps the transport's error; what a server says has no source.
    let mut source = std::error::Error::source(status);
    let broke = source.is_some();
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return false;
        }
        source = error.source();
    }
    broke || status.code() == Code::Unavailable
}

/// The innermost source of `error`: tonic's own text is only "transport error".
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;
    use crate::{
        http2_frames::{self, Kind},
        security::client::Credentials,
    };

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for good in ["127.0.0.1:1", "http://teacher:50051", "[::1]:8001"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "teacher", "http://teacher", ":", "a b:1"] {
            let error = endpoint(bad).expect_err(bad).to_string();
            assert!(error.contains("host:port"), "{error}");
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    /// What a call gives whose server does `serve` with its connection.
    async fn call<F: Future<Output = ()> + Send + 'static>(
        timeout: Duration,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> Status {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (connection, _) = listener.accept().await.unwrap();
            serve(connection).await;
        });
        let channel = endpoint(&address).unwrap().connect().await.unwrap();
        let mut request = tonic::Request::new(HealthCheckRequest {
            service: "no.such.Service".to_owned(),
        });
        request.set_timeout(timeout);
        HealthClient::new(channel).check(request).await.unwrap_err()
    }

    #[test]
    fn a_long_message_is_cut_between_letters() {
        for letter in ["a", "é", "語"] {
            // Shifted by one, so that the limit is within a letter.
            let text = format!("a{}", letter.repeat(LONGEST_MESSAGE + 1));
            let long = status(Code::Internal, "LONG", text);
            let message = long.message();
            assert!(message.len() <= LONGEST_MESSAGE + '…'.len_utf8());
            assert!(message.len() > LONGEST_MESSAGE - 4);
            assert!(message.ends_with(&format!("{letter}…")));
        }
        assert_eq!(status(Code::Internal, "SHORT", "short").message(), "short");
    }

    #[tokio::test]
    async fn a_lost_connection_is_told_from_a_refusal_and_a_deadline() {
        let lost = call(LONG, async |mut connection| {
            // Not before the request: else it would not be sent at all.
            let mut read = [0; 1024];
            while connection.read(&mut read).await.unwrap() < 100 {}
        })
        .await;
        assert!(is_away(&lost), "{lost:?}");
        let late = call(Duration::from_secs(2), async |connection| {
            std::future::pending::<()>().await;
            drop(connection);
        })
        .await;
        assert!(!is_away(&late), "{late:?}");
        let refused = call(LONG, async |connection| {
            let (_health, service) = crate::health::Health::new(&[]);
            let connections = futures::stream::iter([Ok::<_, std::io::Error>(connection)]);
            let served = server().add_service(service);
            served.serve_with_incoming(connections).await.unwrap();
        })
        .await;
        assert_eq!(refused.code(), Code::NotFound);
        assert!(!is_away(&refused), "{refused:?}");
        assert!(is_away(&Status::unavailable("draining")));
    }

    /// Fails when a ping comes within an hour, of paused time.
    async fn expect_no_ping(connection: &mut TcpStream) {
        let ping = async { while http2_frames::next(connection).await.0 != Some(Kind::Ping) {} };
        let hour = Duration::from_secs(3600);
        let pinged = tokio::time::timeout(hour, ping).await;
        assert!(pinged.is_err(), "a ping");
    }

    /// grpc's servers take three without data within five minutes, then they close the connection.
    #[tokio::test]
    async fn a_client_sends_no_ping_while_it_is_idle_or_waits_for_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let credentials = Credentials::default();
        let (channel, accepted) = tokio::join!(credentials.connect(&address), listener.accept());
        let (mut connection, _) = accepted.unwrap();
        let mut preface = [0; http2_frames::PREFACE.len()];
        connection.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, http2_frames::PREFACE);
        let settings = http2_frames::frame(Kind::Settings, 0, 0, &[]);
        connection.write_all(&settings).await.unwrap();
        tokio::time::pause();
        expect_no_ping(&mut connection).await;
        let mut client = HealthClient::new(channel.unwrap());
        let call = tokio::spawn(async move { client.check(HealthCheckRequest::default()).await });
        while http2_frames::next(&mut connection).await.0 != Some(Kind::Data) {}
        expect_no_ping(&mut connection).await;
        assert!(!call.is_finished(), "it waits");
    }
}
