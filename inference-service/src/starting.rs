//! Rejects calls until every stored model has been loaded, except those about the service itself.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    TryFutureExt,
    future::{Either, MapOk},
};
use http_body_util::{Either as EitherBody, Full};
use server::security::Refusal;
use tonic::codegen::{Body, Service, http};
use tower_layer::Layer;

/// Paths that are answered while the service starts.
const ANSWERED: [&str; 8] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerMetadata",
    "/inference.GRPCInferenceService/ServerReady",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/repository/index",
];

/// The protocol of a port, which determines the form of a rejection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

/// Whether the service has started. Clones share the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Started(Arc<AtomicBool>);

impl Started {
    /// Admits calls from now on.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// A layer that rejects the calls of a port with UNAVAILABLE or 503 until the service has started.
    pub(crate) fn layer(&self, protocol: Protocol) -> StartingLayer {
        StartingLayer {
            started: self.clone(),
            protocol,
        }
    }

    fn admits(&self, path: &str) -> bool {
        self.0.load(Ordering::Acquire)
            || path == "/v2"
            || ANSWERED.iter().any(|answered| path.starts_with(answered))
    }
}

/// The layer of a port, for tonic's `Server::layer` and axum's `Router::layer`.
#[derive(Debug, Clone)]
pub(crate) struct StartingLayer {
    started: Started,
    protocol: Protocol,
}

impl<S> Layer<S> for StartingLayer {
    type Service = Starting<S>;

    fn layer(&self, service: S) -> Starting<S> {
        Starting {
            service,
            layer: self.clone(),
        }
    }
}

/// A service behind a [`StartingLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Starting<S> {
    service: S,
    layer: StartingLayer,
}

/// The response of the service, or a rejection.
type Answer<B> = http::Response<EitherBody<B, Full<Bytes>>>;

impl<S, A, B> Service<http::Request<A>> for Starting<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Answer<B>;
    type Error = S::Error;
    type Future = Either<
        MapOk<S::Future, fn(http::Response<B>) -> Answer<B>>,
        Ready<Result<Answer<B>, S::Error>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        if self.layer.started.admits(request.uri().path()) {
            let own: fn(http::Response<B>) -> Answer<B> = |answer| answer.map(EitherBody::Left);
            return Either::Left(self.service.call(request).map_ok(own));
        }
        let refused: http::Response<Full<Bytes>> = match self.layer.protocol {
            Protocol::Grpc => Refusal::Starting.grpc_response(),
            Protocol::Http => Refusal::Starting.http_response(),
        };
        Either::Right(ready(Ok(refused.map(EitherBody::Right))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_about_the_service_are_answered_while_it_starts() {
        let started = Started::default();
        let calls = [
            "/inference.GRPCInferenceService/ModelInfer",
            "/inference.GRPCInferenceService/ModelReady",
            "/retort.publish.v1.PublisherService/Publish",
            "/v2/models/m/infer",
        ];
        for path in calls {
            assert!(!started.admits(path), "{path}");
        }
        for path in ["/v2", "/v2/health/live", "/grpc.health.v1.Health/Check"] {
            assert!(started.admits(path), "{path}");
        }
        started.set();
        for path in calls {
            assert!(started.admits(path), "{path}");
        }
    }
}
