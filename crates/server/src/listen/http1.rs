//! Serves HTTP/1.1 with a limit on connections and on the time for a request to arrive.

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
    arrival_timer::ArrivalTimer,
    connection::Connection,
    listener::{Listener, Peer},
    slots::{ConnectionSlots, Registration},
    tracked::Tracked,
};
use crate::security::Refusal;

/// Limits of a port's connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Open connections.
    pub connections: usize,
    /// Longest time for the headers of a request to arrive, since the previous request or since the
    /// connection began.
    pub header_time: Duration,
}

/// Longest headers of a request, and largest part of a body that is read ahead.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// Serves `router` until `stop`, then finishes the requests in progress.
///
/// A connection beyond the limit replaces the one that has been idle longest. While every connection has a
/// request, further connections get answers to probes and scrapes only, and 503 with the reason
/// `PORT_FULL` to other requests.
///
/// A client that closes its write half still gets its answer. The work for a client is dropped when its
/// connection fails.
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
    let slots = ConnectionSlots::new(listener.port(), limits.connections, stop.clone());
    loop {
        let next = async {
            let (connection, peer) = listener.next().await;
            (connection, peer, slots.register().await)
        };
        let (connection, peer, registration) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        tokio::spawn(serve_connection(
            http.clone(),
            connection,
            peer,
            router.clone(),
            registration,
        ));
    }
    drop(listener);
    slots.emptied().await;
}

async fn serve_connection(
    http: http1::Builder,
    connection: Connection,
    peer: Peer,
    router: Router,
    registration: Registration,
) {
    let activity = &registration.activity;
    let socket = connection.socket().clone();
    let tracked = Tracked::new(connection, Arc::clone(activity), CancellationToken::new());
    let service = service_fn(|request| answer(router.clone(), request, peer, activity));
    let mut connection = pin!(http.serve_connection(TokioIo::new(tracked), service));
    let mut ended = pin!(activity.ended());
    let mut closing = false;
    loop {
        tokio::select! {
            // An error ends this connection only.
            _ = &mut connection => break,
            () = activity.close.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut ended => break,
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
        Body::new(ArrivingBody {
            body,
            timer: ArrivalTimer::new(None, activity.close.clone()),
            given_up: Arc::clone(&given_up),
        })
    });
    // For log lines, which contain the caller's address.
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.call(request).await?;
    if given_up.load(Ordering::Relaxed) {
        return Ok(refuse(Refusal::ShuttingDown));
    }
    Ok(response.map(|body| Body::new(AnswerBody { body, _call: call })))
}

/// Rejects a request and closes the connection, because its slot is needed.
fn refuse(refusal: Refusal) -> Response<Body> {
    let mut response: Response<Body> = refusal.http_response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The body of a request; it fails when the port stops and no data arrives.
struct ArrivingBody {
    body: Incoming,
    timer: ArrivalTimer,
    given_up: Arc<AtomicBool>,
}

impl http_body::Body for ArrivingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer.data_arrived();
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        self.timer.poll_expired(context).map(|_| {
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

/// The body of an answer; dropping it ends the call.
struct AnswerBody {
    body: Body,
    _call: Call,
}

impl http_body::Body for AnswerBody {
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
