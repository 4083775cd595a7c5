//! The tower layer that begins a span for each call of a port, if this process exports traces.
//!
//! Put it inside the layer that checks tokens: only an accepted call may begin a span.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::extract::MatchedPath;
use bytes::Bytes;
use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, Either, MapOk},
};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower_layer::Layer;
use tower_service::Service;
use traces::{Parent, Span, SpanKind, TraceContext};

/// Calls that clients repeat to watch a service. They begin no span.
const PROBES: [&str; 4] = [
    "/grpc.health.",
    "/grpc.reflection.",
    "/v2/health/",
    "/metrics",
];

/// The codes of gRPC that the conventions count as errors of the server: UNKNOWN, DEADLINE_EXCEEDED,
/// UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS
/// (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>).
const SERVER_ERRORS: [i64; 6] = [2, 4, 12, 13, 14, 15];

/// Longest part of a path in a span.
const LONGEST_PATH: usize = 128;

/// The protocol of a port, which determines the names and attributes of its spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracedProtocol {
    /// gRPC.
    Grpc,
    /// HTTP.
    Http,
}

/// Begins a span for each call, as a part of the caller's `traceparent`; a layer for tonic's `Server::layer` and
/// axum's `Router::layer`. The span is the current one of the service, and ends with the response's body.
#[derive(Debug, Clone, Copy)]
pub struct TraceLayer(pub TracedProtocol);

/// A service inside a [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct Traced<S> {
    protocol: TracedProtocol,
    service: S,
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, service: S) -> Traced<S> {
        let protocol = self.0;
        Traced { protocol, service }
    }
}

type Answer<B> = Response<TracedBody<B>>;

impl<S, A, B> Service<Request<A>> for Traced<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = Answer<B>;
    type Error = S::Error;
    type Future = Either<
        MapOk<S::Future, fn(Response<B>) -> Answer<B>>,
        BoxFuture<'static, Result<Answer<B>, S::Error>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let protocol = self.protocol;
        let Some(span) = protocol.begin(&request) else {
            let plain: fn(Response<B>) -> Answer<B> = |answer| answer.map(TracedBody::plain);
            return Either::Left(self.service.call(request).map_ok(plain));
        };
        let answer = {
            let _entered = span.enter();
            self.service.call(request)
        };
        let answer = span.around(answer).map_ok(move |answer| {
            protocol.note(&span, &answer);
            let span = Some(span);
            answer.map(|body| TracedBody { body, span })
        });
        Either::Right(answer.boxed())
    }
}

impl TracedProtocol {
    /// The span of a call; `None` if there is nothing to trace.
    fn begin<A>(self, request: &Request<A>) -> Option<Span> {
        if !traces::is_enabled() {
            return None;
        }
        let path = request.uri().path();
        if PROBES.iter().any(|probe| path.starts_with(probe)) {
            return None;
        }
        let caller = TraceContext::of(request.headers());
        let path = path.get(..LONGEST_PATH).unwrap_or(path).to_owned();
        let begin = |name: String| {
            let parent = Parent::Remote(caller.as_ref());
            Span::begin_as(SpanKind::Server, name, parent)
        };
        let span = match self {
            Self::Grpc => {
                let name = path.trim_start_matches('/').to_owned();
                let (service, method) = name.split_once('/').unwrap_or((name.as_str(), ""));
                let (service, method) = (service.to_owned(), method.to_owned());
                begin(name)
                    .with("rpc.system", "grpc")
                    .with("rpc.service", service)
                    .with("rpc.method", method)
            }
            Self::Http => {
                let method = request.method().as_str().to_owned();
                let route = request.extensions().get::<MatchedPath>();
                let route = route.map(|route| route.as_str().to_owned());
                let span = match route {
                    None => begin(method.clone()),
                    Some(route) => begin(format!("{method} {route}")).with("http.route", route),
                };
                span.with("http.request.method", method)
                    .with("url.path", path)
            }
        };
        Some(span)
    }

    /// Notes the status in the head of an answer: that of HTTP, or of a gRPC call that failed at once.
    fn note<B>(self, span: &Span, answer: &Response<B>) {
        match self {
            Self::Grpc => note_grpc_status(span, answer.headers()),
            Self::Http => {
                let status = answer.status();
                span.set("http.response.status_code", i64::from(status.as_u16()));
                if status.is_server_error() {
                    span.fail(status);
                }
            }
        }
    }
}

fn note_grpc_status(span: &Span, headers: &HeaderMap) {
    let code = headers.get("grpc-status");
    let code = code.and_then(|code| code.to_str().ok()?.parse::<i64>().ok());
    if let Some(code) = code {
        span.set("rpc.grpc.status_code", code);
        if SERVER_ERRORS.contains(&code) {
            span.fail(tonic::Code::from_i32(code as i32));
        }
    }
}

/// The body of a response, in which the call's span is the current one.
#[derive(Debug)]
pub struct TracedBody<B> {
    body: B,
    span: Option<Span>,
}

impl<B> TracedBody<B> {
    fn plain(body: B) -> Self {
        Self { body, span: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TracedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, span } = &mut *self;
        let Some(of_call) = span else {
            return Pin::new(body).poll_frame(context);
        };
        let polled = {
            let _entered = of_call.enter();
            Pin::new(body).poll_frame(context)
        };
        let ended = match &polled {
            Poll::Ready(Some(Ok(frame))) => match frame.trailers_ref() {
                None => false,
                Some(trailers) => {
                    note_grpc_status(of_call, trailers);
                    true
                }
            },
            Poll::Ready(Some(Err(_))) => {
                of_call.fail("the response was not sent completely");
                true
            }
            Poll::Ready(None) => true,
            Poll::Pending => false,
        };
        if ended {
            *span = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
