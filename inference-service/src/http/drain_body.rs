//! Reads what handlers leave of request bodies.

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

use super::body::{BodyLimits, drain_limit};

/// Sends a response only after the request's body has arrived. Otherwise hyper would close the connection
/// while the client still sends, and the client might lose the response. If the rest of the body is too
/// long or too slow, the response announces that the connection closes.
pub(super) async fn drain_body(
    State(limits): State<BodyLimits>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Such a client sends the body only after an interim response.
    let expects_continue = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let body = SharedBody(Arc::new(Mutex::new(body)));
    let request = Request::from_parts(parts, Body::new(body.clone()));
    let mut response = next.run(request).await;
    // With these responses, the handler has already waited for the body.
    let has_waited = [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE];
    let close = expects_continue || has_waited.contains(&response.status());
    let remaining = mem::take(&mut *body.lock());
    if !remaining.is_end_stream() && (close || !drain(remaining, limits).await) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Reads `body` to its end; `false` if that exceeds the limits.
async fn drain(body: Body, limits: BodyLimits) -> bool {
    let most = drain_limit(limits.bytes);
    if body.size_hint().lower() > most {
        return false;
    }
    let mut stream = body.into_data_stream();
    let read = async {
        let mut length = 0;
        while let Some(chunk) = stream.next().await {
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

/// A request body that outlives the handler that reads it. At its end it becomes empty.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    fn lock(&self) -> MutexGuard<'_, Body> {
        // After a panic the body is not polled again, because the connection is closed.
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
