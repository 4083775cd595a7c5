//! Bodies of requests that are answered without them.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{
    Error,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures::StreamExt;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;

use super::body::{BodyLimits, patience};

/// Answers a request once its body is there, read or not: the connection of a client that still sends
/// would be closed, and its next request lost. Where too much is left, or it does not come in time,
/// the answer says that the connection ends.
pub(super) async fn wait_for_body(
    State(limits): State<BodyLimits>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Its client sends the body only where it is asked to.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let body = SharedBody(Arc::new(Mutex::new(body)));
    let request = Request::from_parts(parts, Body::new(body.clone()));
    let mut response = next.run(request).await;
    // A handler that gave the body up has waited for it.
    let given_up = [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE];
    let never_comes = asks_first || given_up.contains(&response.status());
    let rest = mem::take(&mut *body.lock());
    if !rest.is_end_stream() && (never_comes || !ends(rest, limits).await) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Whether `rest` comes to its end within the limits.
async fn ends(rest: Body, limits: BodyLimits) -> bool {
    let most = patience(limits.bytes);
    if rest.size_hint().lower() > most {
        return false;
    }
    let mut rest = rest.into_data_stream();
    let read = async {
        let mut length = 0;
        while let Some(chunk) = rest.next().await {
            match chunk {
                Ok(chunk) => length += chunk.len() as u64,
                Err(_) => return false,
            }
            if length > most {
                return false;
            }
        }
        true
    };
    timeout(limits.time, read).await.unwrap_or(false)
}

/// A body that a handler reads, and that is there when the handler has dropped it; empty once it has
/// come to its end.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    fn lock(&self) -> MutexGuard<'_, Body> {
        // A body that panicked is not polled again: the connection is gone.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for SharedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut body = self.lock();
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if frame.is_none() {
            *body = Body::empty();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}
