//! Counts rejected calls at the edge of every port, including those that reached no model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tonic::codegen::{Service, http};
use tower_layer::Layer;

/// Counts of rejected calls by protocol and code since the start of the process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<BTreeMap<Refusal, u64>>>);

/// The protocol and the code of a rejected call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    /// `grpc` or `http`.
    pub(crate) protocol: &'static str,
    /// The gRPC code or the HTTP status.
    pub(crate) code: u16,
}

impl Refusals {
    /// All counts.
    pub(crate) fn counts(&self) -> BTreeMap<Refusal, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn record<B>(&self, response: &http::Response<B>) {
        if let Some(refusal) = Refusal::of(response) {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(refusal).or_default() += 1;
        }
    }
}

impl Refusal {
    /// gRPC errors are responses that consist of headers only, with the status among them.
    fn of<B>(response: &http::Response<B>) -> Option<Self> {
        if let Some(status) = response.headers().get("grpc-status") {
            let code = status.to_str().ok()?.parse().ok()?;
            let protocol = "grpc";
            return (code != 0).then_some(Self { protocol, code });
        }
        let code = response.status().as_u16();
        let protocol = "http";
        (code >= 400).then_some(Self { protocol, code })
    }
}

impl<S> Layer<S> for Refusals {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        let refusals = self.clone();
        Counted { inner, refusals }
    }
}

/// A service whose rejected calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    refusals: Refusals,
}

impl<S, A, B> Service<http::Request<A>> for Counted<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let answer = self.inner.call(request);
        let refusals = self.refusals.clone();
        Box::pin(async move {
            let response = answer.await?;
            refusals.record(&response);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_count() {
        let response = |status: u16, grpc: Option<&str>| {
            let mut response = http::Response::builder().status(status);
            if let Some(grpc) = grpc {
                response = response.header("grpc-status", grpc);
            }
            response.body(()).unwrap()
        };
        let refusals = Refusals::default();
        for (status, grpc) in [
            (200, None),
            (200, Some("0")),
            (200, Some("5")),
            (200, Some("5")),
            (404, None),
        ] {
            refusals.record(&response(status, grpc));
        }
        let refusal = |protocol, code| Refusal { protocol, code };
        let expected = [(refusal("grpc", 5), 2), (refusal("http", 404), 1)];
        assert_eq!(refusals.counts(), BTreeMap::from(expected));
    }
}
