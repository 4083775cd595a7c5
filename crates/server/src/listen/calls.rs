//! Counts the calls of each gRPC connection, and rejects those for which a full port has no slot.

use std::{
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Either, Map};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either as EitherBody, Empty};
use tower_layer::Layer;
use tower_service::Service;

use super::{activity::Call, tracked::ConnectionInfo};
use crate::security::Refusal;

/// The layer around the services of a gRPC port; see [`crate::grpc::server`].
#[derive(Debug, Clone, Copy, Default)]
pub struct CallsLayer(());

/// A service inside a [`CallsLayer`].
#[derive(Debug, Clone)]
pub struct Calls<S>(S);

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, service: S) -> Calls<S> {
        Calls(service)
    }
}

/// The service's own answer, or a rejection.
type Answer<B> = Response<EitherBody<Counted<B>, Empty<Bytes>>>;

/// Makes the service's response an [`Answer`].
type Count<B, E> = Box<dyn FnOnce(Result<Response<B>, E>) -> Result<Answer<B>, E> + Send>;

impl<S, A, B> Service<Request<A>> for Calls<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Answer<B>;
    type Error = S::Error;
    type Future = Either<Map<S::Future, Count<B, S::Error>>, Ready<Result<Answer<B>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let extensions = request.extensions_mut();
        let call = match extensions.remove::<ConnectionInfo>() {
            // `http2::serve` does not serve this call.
            None => None,
            Some(ConnectionInfo { tcp, activity }) => {
                extensions.insert(tcp);
                let call = activity.begin(request.uri().path());
                if call.is_none() {
                    let response = Refusal::PortFull.grpc_response();
                    return Either::Right(ready(Ok(response.map(EitherBody::Right))));
                }
                call
            }
        };
        let count = |response: Result<Response<B>, S::Error>| {
            Ok(response?.map(|body| EitherBody::Left(Counted { body, _call: call })))
        };
        Either::Left(self.0.call(request).map(Box::new(count)))
    }
}

/// A body that ends its call when it is dropped.
pub struct Counted<B> {
    body: B,
    _call: Option<Call>,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
