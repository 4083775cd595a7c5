//! Defaults of gRPC servers and clients: limits of HTTP/2, keepalive, and statuses with error details.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{self, Channel, Endpoint};
use tower_layer::{Identity, Stack};

use crate::listen::CallsLayer;

mod status;

pub use status::{ERROR_DOMAIN, is_away, reason, root_cause, status};

/// HTTP/2 pings with which a server detects a client that vanished without closing its connection.
const SERVER_PING_INTERVAL: Duration = Duration::from_secs(5);
const SERVER_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Concurrent calls on one connection. Proxies and asynchronous clients use one connection for all calls;
/// further calls wait at the client.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// Calls that a client may have cancelled before the server accepts them. While a server is blocked, the
/// deadlines of all calls of a connection may expire, so the limit is that of calls. Beyond it, h2 closes the
/// connection: a client that keeps opening and resetting streams ("rapid reset", CVE-2023-44487) occupies at
/// most 1,024 times the 16 KiB of a call's headers.
const MAX_PENDING_RESETS: usize = MAX_CONCURRENT_STREAMS as usize;

/// Streams that the server may reset because of the client's errors during a connection: h2's default, set
/// explicitly so that an update of h2 does not change it.
const MAX_ERROR_RESETS: usize = 1024;

/// Largest headers of a call, bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// With TCP keepalive, a client detects that the server's host vanished: after 4 s of silence, TCP probes
/// twice. While sent data is not acknowledged, TCP does not probe, but fails after the user timeout.
///
/// Not HTTP/2's pings: gRPC's servers close a connection on which pings come more often than every
/// five minutes without data (ENHANCE_YOUR_CALM, "too_many_pings"; see
/// <https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md>).
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(4);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const TCP_KEEPALIVE_PROBES: u32 = 2;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A tonic server that counts the calls of each connection.
pub type Server = transport::Server<Stack<CallsLayer, Identity>>;

/// Creates a server with the HTTP/2 limits of all ports, with keepalive (which tonic disables by default) and
/// without Nagle's algorithm; serve it with [`http2::serve`](crate::listen::http2::serve).
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

/// Creates a client's endpoint for `address`: `host:port` or `http://host:port`.
///
/// # Errors
/// If `address` has another form; the text names it.
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

/// Connects to `endpoint` once. The connection fails within seconds if the server's host vanishes.
///
/// # Errors
/// If the connection fails.
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use tonic::{Code, Status};
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

    /// Returns the status of a call to a server that handles its connection with `serve`.
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

    #[tokio::test]
    async fn a_lost_connection_differs_from_a_refusal_and_a_deadline() {
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
