//! How long a request may take to arrive. A caller that sends half a message and then nothing would
//! hold what it has sent in memory for as long as it likes.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Frame, SizeHint};
use proto::publish::v1::publisher_service_server;
use tokio::time::{Instant, Sleep, sleep};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service, http},
};
use tower_layer::Layer;

use crate::error::{HttpError, ServiceError};

/// Bounds the time of requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalLimit(pub(crate) Duration);

/// What has to come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InTime {
    /// The whole request: a call of one message.
    Request,
    /// Every part of it: an upload, however long it is.
    EachPart,
    /// Nothing: a stream on which a caller may be silent.
    Nothing,
}

impl InTime {
    fn of(path: &str) -> Self {
        let (service, call) = path
            .trim_start_matches('/')
            .rsplit_once('/')
            .unwrap_or_default();
        match call {
            "Publish" if service == publisher_service_server::SERVICE_NAME => Self::EachPart,
            "ModelStreamInfer" | "ServerReflectionInfo" => Self::Nothing,
            _ => Self::Request,
        }
    }
}

impl<S> Layer<S> for ArrivalLimit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        let Self(limit) = *self;
        Limited { inner, limit }
    }
}

/// A service whose requests arrive in time.
#[derive(Debug, Clone)]
pub(crate) struct Limited<S> {
    inner: S,
    limit: Duration,
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Limited<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let limit = self.limit;
        let request = match InTime::of(request.uri().path()) {
            InTime::Nothing => request,
            in_time => request.map(|body| {
                Body::new(Arriving {
                    body,
                    in_time,
                    limit,
                    late: None,
                })
            }),
        };
        self.inner.call(request)
    }
}

/// A body that fails when it is late.
struct Arriving {
    body: Body,
    in_time: InTime,
    limit: Duration,
    /// Set when something has to be waited for, which for most requests never happens.
    late: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let (InTime::EachPart, Some(late)) = (this.in_time, &mut this.late) {
                late.as_mut().reset(Instant::now() + this.limit);
            }
            return Poll::Ready(frame);
        }
        let late = this.late.get_or_insert_with(|| Box::pin(sleep(this.limit)));
        late.as_mut().poll(context).map(|()| {
            let seconds = this.limit.as_secs();
            let error = HttpError::BodyTimedOut { seconds };
            Some(Err(ServiceError::from(error).into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::{StreamExt, stream};
    use http_body::Body as _;
    use http_body_util::StreamBody;
    use tonic::Code;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Parts that arrive of a body of four, one after every `pause`.
    async fn receive(in_time: InTime, pause: Duration) -> (usize, Option<Code>) {
        let parts = stream::iter(0..4).then(move |_| async move {
            sleep(pause).await;
            Ok::<_, Status>(Frame::data(Bytes::from_static(b"part")))
        });
        let mut body = Arriving {
            body: Body::new(StreamBody::new(parts.boxed())),
            in_time,
            limit: LIMIT,
            late: None,
        };
        let mut arrived = 0;
        while let Some(part) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            match part {
                Ok(_) => arrived += 1,
                Err(status) => return (arrived, Some(status.code())),
            }
        }
        (arrived, None)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_fails() {
        let late = Some(Code::DeadlineExceeded);
        for (in_time, seconds, expected) in [
            (InTime::Request, 0, (4, None)),
            (InTime::Request, 2, (4, None)),
            (InTime::Request, 3, (3, late)),
            (InTime::Request, 60, (0, late)),
            (InTime::EachPart, 9, (4, None)),
            (InTime::EachPart, 11, (0, late)),
        ] {
            let received = receive(in_time, Duration::from_secs(seconds)).await;
            assert_eq!(received, expected, "{in_time:?}, {seconds} s");
        }
    }

    #[test]
    fn streams_may_be_silent_and_nothing_else() {
        for (path, expected) in [
            (
                "/inference.GRPCInferenceService/ModelInfer",
                InTime::Request,
            ),
            (
                "/inference.GRPCInferenceService/ModelStreamInfer",
                InTime::Nothing,
            ),
            (
                "/retort.publish.v1.PublisherService/Publish",
                InTime::EachPart,
            ),
            ("/elsewhere/Publish", InTime::Request),
            ("", InTime::Request),
        ] {
            assert_eq!(InTime::of(path), expected, "{path}");
        }
    }
}
