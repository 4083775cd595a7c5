//! Serving gRPC: so many connections at a time, and none for longer than its work takes.

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
    places::{Admitted, Places},
    tracked::Tracked,
};
use crate::grpc::root_cause;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves `router`, which [`crate::grpc::server`] began, until `stop`; then finishes the calls that it
/// has. What `open` gives for a connection is dropped with it.
///
/// There are at most `limit` connections. One more takes the place of the connection that has had no
/// call for the longest time, which ends with a GOAWAY. Where every connection has a call, health
/// checks are still answered, and other calls get UNAVAILABLE with the reason `PORT_FULL`.
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
    let places = Places::new(listener.port(), limit, stop.clone());
    loop {
        let admitted = async {
            let (connection, _) = listener.next().await;
            (connection, places.admit().await)
        };
        let (connection, admitted) = tokio::select! {
            admitted = admitted => admitted,
            () = stop.cancelled() => break,
        };
        let Admitted { activity, .. } = &admitted;
        let gone = CancellationToken::new();
        let tracked = Tracked::new(connection, activity.clone(), gone.clone());
        let router = router.clone();
        let open = open();
        tokio::spawn(async move {
            // A server of its own for each connection: each can end with a GOAWAY of its own.
            let activity = &admitted.activity;
            let connection = stream::iter([Ok::<_, Infallible>(tracked)]).chain(stream::pending());
            let end = async {
                tokio::select! {
                    () = activity.close.cancelled() => {}
                    () = gone.cancelled() => {}
                }
            };
            let server = router.serve_with_incoming_shutdown(connection, end);
            tokio::select! {
                ended = server => if let Err(error) = ended {
                    warn!("a connection cannot be served: {}", root_cause(&error));
                },
                () = activity.over() => activity.cut.cancel(),
            }
            gone.cancelled().await;
            drop(admitted);
            // Last: who sees in a metric that a connection is gone finds its place free.
            drop(open);
        });
    }
    drop(listener);
    places.emptied().await;
}

#[cfg(test)]
mod tests;
