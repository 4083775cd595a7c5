//! Accepting HTTP connections, so many at a time, and none that says nothing for long.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, serve::Listener};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// What a connection may be.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// For the headers of a request to arrive, from the request before it or from the connection's
    /// beginning.
    pub header_time: Duration,
}

/// Longest headers of a request, and most bytes of a body that are read ahead.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// Serves `router` until `stop`, then finishes the requests that it has.
pub async fn serve(
    mut listener: impl Listener<Addr: Clone + Send + Sync + 'static>,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(MAX_BUFFER_BYTES);
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = async {
            // Holds: nothing closes the semaphore.
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, (stream, peer)) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            // Logs name the caller.
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            router.clone().call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // An error ends this connection and concerns nobody else.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn a_connection_that_stops_in_its_headers_gives_its_place_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let limits = ConnectionLimits {
            connections: 1,
            header_time: Duration::from_millis(100),
        };
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, limits, stop.clone()));
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HT").await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        next.write_all(request).await.unwrap();
        let mut answer = String::new();
        let read = next.read_to_string(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(60), read).await;
        read.expect("it has a place").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("here"), "{answer}");
        // Not before: it stays open on this side.
        drop(first);
        stop.cancel();
        server.await.unwrap();
    }
}
