//! Serves gRPC with a limit on connections, and ends each connection after its calls when the port stops.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes, transport::server::Router};
use tower_layer::Layer;
use tower_service::Service;
use tracing::warn;

use super::{
    listener::Listener,
    slots::{ConnectionSlots, Registration},
    tracked::Tracked,
};
use crate::grpc::root_cause;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves `router`, built from [`crate::grpc::server`], until `stop`; then finishes the calls in progress.
/// The value that `open` returns for a connection is dropped with it.
///
/// A connection beyond `limit` replaces the one that has been idle longest, which gets a GOAWAY. While every
/// connection has a call, further connections get answers to health checks only, and UNAVAILABLE with the
/// reason `PORT_FULL` to other calls.
pub async fn serve<L, B, T>(
    mut listener: Listener,
    router: Router<L>,
    limit: usize,
    open: impl Fn() -> T,
    stop: CancellationToken,
) where
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send,
    <L::Service as Service<Request<Body>>>::Error: Into<BoxError> + Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    T: Send + 'static,
{
    let slots = ConnectionSlots::new(listener.port(), limit, stop.clone());
    loop {
        let next = async {
            let (connection, _) = listener.next().await;
            (connection, slots.register().await)
        };
        let (connection, registration) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        let Registration { activity, .. } = &registration;
        let dropped = CancellationToken::new();
        let tracked = Tracked::new(connection, activity.clone(), dropped.clone());
        let router = router.clone();
        let open = open();
        tokio::spawn(async move {
            // One server per connection, so that each connection can get its own GOAWAY.
            let activity = &registration.activity;
            let connection = stream::iter([Ok::<_, Infallible>(tracked)]).chain(stream::pending());
            let end = async {
                tokio::select! {
                    () = activity.close.cancelled() => {}
                    () = dropped.cancelled() => {}
                }
            };
            let server = router.serve_with_incoming_shutdown(connection, end);
            tokio::select! {
                ended = server => if let Err(error) = ended {
                    warn!("a connection cannot be served: {}", root_cause(&error));
                },
                () = activity.ended() => activity.abort.cancel(),
            }
            dropped.cancelled().await;
            drop(registration);
            // Last, so that the slot is free once a metric shows that the connection has ended.
            drop(open);
        });
    }
    drop(listener);
    slots.emptied().await;
}

#[cfg(test)]
mod tests;
