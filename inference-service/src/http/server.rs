//! Accepting HTTP connections, so many at a time, and none that says nothing for long.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, http::Request, serve::Listener};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

/// What a connection may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Connections at a time; more wait to be accepted.
    pub(crate) connections: usize,
    /// For the headers of a request to arrive, from the request before it or from the connection's
    /// beginning.
    pub(crate) header_time: Duration,
}

/// Longest headers of a request, and most bytes of a body that are read ahead.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// Serves `router` until `stop`, then finishes the requests that it has.
pub(crate) async fn serve(
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
