//! How long a call may take to arrive. A caller that sends half a message and then nothing would
//! hold what it has sent in memory for as long as it likes, and hold up the end of the service.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    framing::Framing,
    patience::{Over, Patience},
};
use crate::{grpc::status, security::Refusal};

/// Bounds the time in which the calls of a gRPC port arrive: tonic's `Server::layer`.
///
/// A call that is late ends with DEADLINE_EXCEEDED and the reason `BODY_TIMED_OUT`. When the port
/// stops, a stream gets no more messages, and a call whose caller is silent in the middle of a message
/// ends with UNAVAILABLE and the reason `SHUTTING_DOWN`.
#[derive(Debug, Clone)]
pub struct ArrivalLimit {
    time: Duration,
    streams: &'static [(&'static str, InTime)],
    stop: CancellationToken,
}

/// What of a call has to come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTime {
    /// All of it: a call of one message.
    Whole,
    /// Every part of it: an upload, however long it is.
    EachPart,
    /// Every message, once it has begun: a stream, on which a caller may be silent in between.
    EachMessage,
    /// As [`EachMessage`](Self::EachMessage), and the service itself ends the stream when it stops.
    EachMessageToTheEnd,
}

/// On every gRPC port.
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What programs match on.
const REASON: &str = "BODY_TIMED_OUT";

impl ArrivalLimit {
    /// Gives `time` to each call as a whole; to those whose paths `streams` names, as it says there;
    /// to reflection as to any stream of messages. The port stops when `stop` is cancelled.
    pub fn new(
        time: Duration,
        streams: &'static [(&'static str, InTime)],
        stop: CancellationToken,
    ) -> Self {
        Self {
            time,
            streams,
            stop,
        }
    }

    fn in_time(&self, path: &str) -> InTime {
        if REFLECTION.contains(&path) {
            return InTime::EachMessage;
        }
        let mut streams = self.streams.iter();
        let stream = streams.find(|(stream, _)| *stream == path);
        stream.map_or(InTime::Whole, |(_, in_time)| *in_time)
    }
}

impl<S> Layer<S> for ArrivalLimit {
    type Service = InTimeOnly<S>;

    fn layer(&self, inner: S) -> InTimeOnly<S> {
        let limit = self.clone();
        InTimeOnly { inner, limit }
    }
}

/// A service behind an [`ArrivalLimit`].
#[derive(Debug, Clone)]
pub struct InTimeOnly<S> {
    inner: S,
    limit: ArrivalLimit,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for InTimeOnly<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let in_time = self.limit.in_time(request.uri().path());
        let patience = Patience::new(Some(self.limit.time), self.limit.stop.clone());
        let request = request.map(|body| Body::new(Arriving::new(body, in_time, patience)));
        self.inner.call(request)
    }
}

/// A body that fails when it is late.
struct Arriving {
    body: Body,
    in_time: InTime,
    framing: Framing,
    patience: Patience,
}

impl Arriving {
    fn new(body: Body, in_time: InTime, patience: Patience) -> Self {
        Self {
            body,
            in_time,
            framing: Framing::default(),
            patience,
        }
    }

    /// Whether `frame` brings the end of what had to come in time; what comes next has its own.
    fn ends_wait(&mut self, frame: &Frame<Bytes>) -> bool {
        match self.in_time {
            InTime::Whole => false,
            InTime::EachPart => true,
            InTime::EachMessage | InTime::EachMessageToTheEnd => frame
                .data_ref()
                .is_some_and(|data| self.framing.follow(data)),
        }
    }

    fn is_between_messages(&self) -> bool {
        let of_messages = matches!(
            self.in_time,
            InTime::EachMessage | InTime::EachMessageToTheEnd
        );
        of_messages && !self.framing.is_within_message()
    }

    /// Whether the caller's next message is not read any more.
    fn is_at_its_end(&self) -> bool {
        self.in_time == InTime::EachMessage
            && self.is_between_messages()
            && self.patience.is_stopping()
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_at_its_end() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            match &frame {
                Some(Ok(frame)) if this.ends_wait(frame) => this.patience.begin_anew(),
                Some(_) => this.patience.heard(),
                None => {}
            }
            return Poll::Ready(frame);
        }
        if this.is_between_messages() {
            return match this.in_time {
                InTime::EachMessage => this.patience.poll_stop(context).map(|()| None),
                _ => Poll::Pending,
            };
        }
        // Not before the service waits: that it reads late is not the caller's fault.
        this.patience.poll_over(context).map(|over| {
            Some(Err(match over {
                Over::TimedOut(time) => {
                    let message = format!("the body did not arrive within {} s", time.as_secs());
                    status(Code::DeadlineExceeded, REASON, message)
                }
                Over::Stopping => Refusal::ShuttingDown.into_status(),
            }))
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
    use tokio::time::sleep;
    use tonic_types::StatusExt;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    /// A message of three bytes behind its prefix.
    const MESSAGE: [u8; 8] = [0, 0, 0, 0, 3, b'a', b'b', b'c'];

    /// Seconds of silence, and what comes then.
    type Part = (u64, Vec<u8>);

    /// How many parts arrive, and what the body fails with.
    type Received = (usize, Option<Code>);

    async fn receive(in_time: InTime, parts: Vec<Part>) -> Received {
        receive_until(CancellationToken::new(), "BODY_TIMED_OUT", in_time, parts).await
    }

    async fn receive_until(
        stop: CancellationToken,
        reason: &str,
        in_time: InTime,
        parts: Vec<Part>,
    ) -> Received {
        let parts = stream::iter(parts).then(|(silence, part)| async move {
            sleep(Duration::from_secs(silence)).await;
            Ok::<_, Status>(Frame::data(Bytes::from(part)))
        });
        let body = Body::new(StreamBody::new(parts.boxed()));
        let patience = Patience::new(Some(TIME), stop);
        let mut body = Arriving::new(body, in_time, patience);
        let mut arrived = 0;
        while let Some(part) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            match part {
                Ok(_) => arrived += 1,
                Err(status) => {
                    let info = status.get_details_error_info().unwrap();
                    assert_eq!(info.reason, reason);
                    return (arrived, Some(status.code()));
                }
            }
        }
        (arrived, None)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_fails() {
        let late = Some(Code::DeadlineExceeded);
        for (in_time, seconds, expected) in [
            (InTime::Whole, 0, (4, None)),
            (InTime::Whole, 2, (4, None)),
            (InTime::Whole, 3, (3, late)),
            (InTime::Whole, 60, (0, late)),
            (InTime::EachPart, 9, (4, None)),
            (InTime::EachPart, 11, (0, late)),
        ] {
            let parts = vec![(seconds, b"part".to_vec()); 4];
            let received = receive(in_time, parts).await;
            assert_eq!(received, expected, "{in_time:?}, {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_silent_between_its_messages_and_not_within_one() {
        let late = Some(Code::DeadlineExceeded);
        let [message, nothing] = [MESSAGE.to_vec(), Vec::new()];
        let split = |at: usize| (message[..at].to_vec(), message[at..].to_vec());
        let (half_prefix, after_half_prefix) = split(3);
        let (prefix, after_prefix) = split(5);
        let (half, other_half) = split(6);
        let bytes = |silence: u64| message.iter().map(move |byte| (silence, vec![*byte]));
        let several = [&message[..], &message, &half_prefix].concat();
        let more = [&after_half_prefix[..], &half].concat();
        let cases: [(&str, Vec<Part>, Received); 10] = [
            ("silence", vec![(3600, message.clone()); 3], (3, None)),
            (
                "silence after an empty message",
                vec![(0, vec![0; 5]), (3600, message.clone())],
                (2, None),
            ),
            (
                "half a prefix",
                vec![(3600, half_prefix.clone()), (11, after_half_prefix.clone())],
                (1, late),
            ),
            (
                "a prefix alone",
                vec![(3600, prefix), (11, after_prefix)],
                (1, late),
            ),
            (
                "half a message",
                vec![(0, half.clone()), (11, other_half.clone())],
                (1, late),
            ),
            (
                "half a message, and frames of nothing",
                vec![(0, half.clone()), (9, nothing), (9, other_half.clone())],
                (2, late),
            ),
            ("in pieces, in time", bytes(1).collect(), (8, None)),
            ("in pieces, late", bytes(3).collect(), (4, late)),
            (
                "several, each in time",
                vec![(0, several.clone()), (9, more.clone()), (9, other_half)],
                (3, None),
            ),
            (
                "several, the last of them late",
                vec![(0, several), (9, more), (11, message.clone())],
                (2, late),
            ),
        ];
        for (what, parts, expected) in cases {
            let received = receive(InTime::EachMessage, parts).await;
            assert_eq!(received, expected, "{what}");
        }
    }

    /// Each port stops after five seconds.
    #[tokio::test(start_paused = true)]
    async fn when_the_port_stops_silent_callers_are_not_waited_for() {
        const HOUR: u64 = 3600;
        let unavailable = Some(Code::Unavailable);
        let half = MESSAGE[..6].to_vec();
        let rest = MESSAGE[6..].to_vec();
        let message = MESSAGE.to_vec();
        let cases: [(&str, InTime, Vec<Part>, Received); 8] = [
            (
                "a call that is whole",
                InTime::Whole,
                vec![(0, message.clone())],
                (1, None),
            ),
            (
                "half a call",
                InTime::Whole,
                vec![(0, half.clone()), (HOUR, rest.clone())],
                (1, unavailable),
            ),
            (
                "half an upload",
                InTime::EachPart,
                vec![(4, half.clone()), (4, rest.clone())],
                (1, unavailable),
            ),
            (
                "a stream that was silent",
                InTime::EachMessage,
                vec![(0, message.clone()), (HOUR, message.clone())],
                (1, None),
            ),
            (
                "a stream that never began",
                InTime::EachMessage,
                vec![(HOUR, message.clone())],
                (0, None),
            ),
            (
                "half a message of a stream",
                InTime::EachMessage,
                vec![(0, message.clone()), (0, half.clone()), (HOUR, rest)],
                (2, unavailable),
            ),
            (
                "a stream that goes on",
                InTime::EachMessage,
                vec![(2, message.clone()); 100],
                (2, None),
            ),
            (
                "a stream that its service ends",
                InTime::EachMessageToTheEnd,
                vec![(2, message.clone()); 100],
                (100, None),
            ),
        ];
        for (what, in_time, parts, expected) in cases {
            let stop = CancellationToken::new();
            let stops = stop.clone();
            tokio::spawn(async move {
                sleep(Duration::from_secs(5)).await;
                stops.cancel();
            });
            let received = receive_until(stop, "SHUTTING_DOWN", in_time, parts).await;
            assert_eq!(received, expected, "{what}");
        }
    }

    #[test]
    fn calls_that_are_not_named_have_to_come_as_a_whole() {
        let limit = ArrivalLimit::new(
            TIME,
            &[
                ("/a.B/Upload", InTime::EachPart),
                ("/a.B/Talk", InTime::EachMessage),
            ],
            CancellationToken::new(),
        );
        for (path, expected) in [
            ("/a.B/Ask", InTime::Whole),
            ("/a.B/Upload", InTime::EachPart),
            ("/a.B/Talk", InTime::EachMessage),
            ("/a.C/Talk", InTime::Whole),
            ("//a.B/Talk", InTime::Whole),
            ("", InTime::Whole),
            ("/grpc.health.v1.Health/Watch", InTime::Whole),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                InTime::EachMessage,
            ),
        ] {
            assert_eq!(limit.in_time(path), expected, "{path}");
        }
    }
}
