//! Serving HTTP/1.1: so many connections at a time, and none that says nothing for long.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::{
    activity::{Activity, Call},
    connection::Connection,
    listener::{Listener, Peer},
    patience::Patience,
    places::{Admitted, Places},
    tracked::Tracked,
};
use crate::security::Refusal;

/// What a connection may be.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at a time.
    pub connections: usize,
    /// For the headers of a request to arrive, from the request before it or from the connection's
    /// beginning.
    pub header_time: Duration,
}

/// Longest headers of a request, and most bytes of a body that are read ahead.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// Serves `router` until `stop`, then finishes the requests that it has.
///
/// A connection more than there may be takes the place of the one that has had no request for the
/// longest time. Where every connection has a request, probes and scrapes are still answered, and other
/// requests get 503 with the reason `PORT_FULL`.
///
/// A client may close the half of its connection that it writes to, and is answered all the same. The
/// work for a client is dropped when its connection fails.
pub async fn serve(
    mut listener: Listener,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(limits.header_time)
        .max_buf_size(MAX_BUFFER_BYTES);
    let places = Places::new(listener.port(), limits.connections, stop.clone());
    loop {
        let admitted = async {
            let (connection, peer) = listener.next().await;
            (connection, peer, places.admit().await)
        };
        let (connection, peer, admitted) = tokio::select! {
            admitted = admitted => admitted,
            () = stop.cancelled() => break,
        };
        tokio::spawn(serve_connection(
            http.clone(),
            connection,
            peer,
            router.clone(),
            admitted,
        ));
    }
    drop(listener);
    places.emptied().await;
}

async fn serve_connection(
    http: http1::Builder,
    connection: Connection,
    peer: Peer,
    router: Router,
    admitted: Admitted,
) {
    let activity = &admitted.activity;
    let socket = connection.socket().clone();
    let tracked = Tracked::new(connection, Arc::clone(activity), CancellationToken::new());
    let service = service_fn(|request| answer(router.clone(), request, peer, activity));
    let mut connection = pin!(http.serve_connection(TokioIo::new(tracked), service));
    let mut over = pin!(activity.over());
    let mut closing = false;
    loop {
        tokio::select! {
            // An error ends this connection only.
            _ = &mut connection => break,
            () = activity.close.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut over => break,
            () = socket.failed() => break,
        }
    }
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
    peer: Peer,
    activity: &Arc<Activity>,
) -> Result<Response<Body>, Infallible> {
    let Some(call) = activity.begin(request.uri().path()) else {
        return Ok(refuse(Refusal::PortFull));
    };
    let given_up = Arc::new(AtomicBool::new(false));
    let mut request = request.map(|body| {
        Body::new(Arriving {
            body,
            patience: Patience::new(None, activity.close.clone()),
            given_up: Arc::clone(&given_up),
        })
    });
    // Logs name the caller.
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.call(request).await?;
    if given_up.load(Ordering::Relaxed) {
        return Ok(refuse(Refusal::ShuttingDown));
    }
    Ok(response.map(|body| Body::new(Answering { body, _call: call })))
}

/// The connection ends with the refusal: its place is needed.
fn refuse(refusal: Refusal) -> Response<Body> {
    let mut response: Response<Body> = refusal.http_response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The body of a request; fails when its port stops and nothing comes.
struct Arriving {
    body: Incoming,
    patience: Patience,
    given_up: Arc<AtomicBool>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.patience.heard();
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        self.patience.poll_over(context).map(|_| {
            self.given_up.store(true, Ordering::Relaxed);
            Some(Err(axum::Error::new(Refusal::ShuttingDown)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; its request is done when it is dropped.
struct Answering {
    body: Body,
    _call: Call,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests;
