//! The time limit for a call to arrive. Without one, a caller that sends half a message and then nothing
//! would occupy memory indefinitely and delay the end of the service.

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
    arrival_timer::{ArrivalTimer, Expired},
    framing::Framing,
};
use crate::{grpc::status, security::Refusal};

/// Limits the time in which the calls of a gRPC port arrive; a layer for tonic's `Server::layer`.
///
/// A late call fails with DEADLINE_EXCEEDED and the reason `BODY_TIMED_OUT`. When the port stops, a stream
/// gets no more messages, and a call whose caller pauses within a message fails with UNAVAILABLE and the
/// reason `SHUTTING_DOWN`.
#[derive(Debug, Clone)]
pub struct ArrivalLimit {
    time: Duration,
    streams: &'static [(&'static str, TimedUnit)],
    stop: CancellationToken,
}

/// The unit of a call to which the time limit applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedUnit {
    /// The whole call: for a call of one message.
    Call,
    /// Each part of the body: for an upload of any length.
    Part,
    /// Each message, from its first byte: for a stream whose caller may pause between messages.
    Message,
    /// Like [`Message`](Self::Message), for a stream that the service itself ends when the port stops.
    MessageUntilServiceEnds,
}

/// The streams of reflection, which every gRPC port serves.
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The reason in the error details of a late call.
const REASON: &str = "BODY_TIMED_OUT";

impl ArrivalLimit {
    /// Applies `time` to each whole call, except to those whose paths are in `streams`, and to each message
    /// of reflection. The port stops when `stop` is cancelled.
    pub fn new(
        time: Duration,
        streams: &'static [(&'static str, TimedUnit)],
        stop: CancellationToken,
    ) -> Self {
        Self {
            time,
            streams,
            stop,
        }
    }

    fn timed_unit(&self, path: &str) -> TimedUnit {
        if REFLECTION.contains(&path) {
            return TimedUnit::Message;
        }
        let mut streams = self.streams.iter();
        let stream = streams.find(|(stream, _)| *stream == path);
        stream.map_or(TimedUnit::Call, |(_, unit)| *unit)
    }
}

impl<S> Layer<S> for ArrivalLimit {
    type Service = ArrivalLimited<S>;

    fn layer(&self, inner: S) -> ArrivalLimited<S> {
        let limit = self.clone();
        ArrivalLimited { inner, limit }
    }
}

/// A service inside an [`ArrivalLimit`].
#[derive(Debug, Clone)]
pub struct ArrivalLimited<S> {
    inner: S,
    limit: ArrivalLimit,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for ArrivalLimited<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let unit = self.limit.timed_unit(request.uri().path());
        let timer = ArrivalTimer::new(Some(self.limit.time), self.limit.stop.clone());
        let request = request.map(|body| Body::new(ArrivingBody::new(body, unit, timer)));
        self.inner.call(request)
    }
}

/// The body of a request, which fails when it is late.
struct ArrivingBody {
    body: Body,
    unit: TimedUnit,
    framing: Framing,
    timer: ArrivalTimer,
}

impl ArrivingBody {
    fn new(body: Body, unit: TimedUnit, timer: ArrivalTimer) -> Self {
        Self {
            body,
            unit,
            framing: Framing::default(),
            timer,
        }
    }

    /// Whether `frame` completes a timed unit.
    fn completes_unit(&mut self, frame: &Frame<Bytes>) -> bool {
        match self.unit {
            TimedUnit::Call => false,
            TimedUnit::Part => true,
            TimedUnit::Message | TimedUnit::MessageUntilServiceEnds => frame
                .data_ref()
                .is_some_and(|data| self.framing.follow(data)),
        }
    }

    fn is_between_messages(&self) -> bool {
        let timed_by_message = matches!(
            self.unit,
            TimedUnit::Message | TimedUnit::MessageUntilServiceEnds
        );
        timed_by_message && !self.framing.is_within_message()
    }

    /// Whether the port stops, so that the caller's next message is not read.
    fn is_at_end(&self) -> bool {
        self.unit == TimedUnit::Message && self.is_between_messages() && self.timer.is_stopping()
    }
}

impl http_body::Body for ArrivingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_at_end() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            match &frame {
                Some(Ok(frame)) if this.completes_unit(frame) => this.timer.restart(),
                Some(_) => this.timer.data_arrived(),
                None => {}
            }
            return Poll::Ready(frame);
        }
        if this.is_between_messages() {
            return match this.unit {
                TimedUnit::Message => this.timer.poll_stop(context).map(|()| None),
                _ => Poll::Pending,
            };
        }
        // The timer runs only while the service waits: a slow service is not the caller's fault.
        this.timer.poll_expired(context).map(|expired| {
            Some(Err(match expired {
                Expired::TimedOut(time) => {
                    let message = format!("the body did not arrive within {} s", time.as_secs());
                    status(Code::DeadlineExceeded, REASON, message)
                }
                Expired::Stopping => Refusal::ShuttingDown.into_status(),
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

    /// A message of three bytes after its prefix.
    const MESSAGE: [u8; 8] = [0, 0, 0, 0, 3, b'a', b'b', b'c'];

    /// Seconds of silence, and the part that follows.
    type Part = (u64, Vec<u8>);

    /// The number of parts that arrive, and the code with which the body fails.
    type Received = (usize, Option<Code>);

    async fn receive(unit: TimedUnit, parts: Vec<Part>) -> Received {
        receive_until(CancellationToken::new(), "BODY_TIMED_OUT", unit, parts).await
    }

    async fn receive_until(
        stop: CancellationToken,
        reason: &str,
        unit: TimedUnit,
        parts: Vec<Part>,
    ) -> Received {
        let parts = stream::iter(parts).then(|(silence, part)| async move {
            sleep(Duration::from_secs(silence)).await;
            Ok::<_, Status>(Frame::data(Bytes::from(part)))
        });
        let body = Body::new(StreamBody::new(parts.boxed()));
        let timer = ArrivalTimer::new(Some(TIME), stop);
        let mut body = ArrivingBody::new(body, unit, timer);
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
    async fn a_late_body_fails() {
        let late = Some(Code::DeadlineExceeded);
        for (unit, seconds, expected) in [
            (TimedUnit::Call, 0, (4, None)),
            (TimedUnit::Call, 2, (4, None)),
            (TimedUnit::Call, 3, (3, late)),
            (TimedUnit::Call, 60, (0, late)),
            (TimedUnit::Part, 9, (4, None)),
            (TimedUnit::Part, 11, (0, late)),
        ] {
            let parts = vec![(seconds, b"part".to_vec()); 4];
            let received = receive(unit, parts).await;
            assert_eq!(received, expected, "{unit:?}, {seconds} s");
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
            let received = receive(TimedUnit::Message, parts).await;
            assert_eq!(received, expected, "{what}");
        }
    }

    /// The port stops after five seconds.
    #[tokio::test(start_paused = true)]
    async fn when_the_port_stops_silent_callers_are_not_waited_for() {
        const HOUR: u64 = 3600;
        let unavailable = Some(Code::Unavailable);
        let half = MESSAGE[..6].to_vec();
        let other_half = MESSAGE[6..].to_vec();
        let message = MESSAGE.to_vec();
        let cases: [(&str, TimedUnit, Vec<Part>, Received); 8] = [
            (
                "a complete call",
                TimedUnit::Call,
                vec![(0, message.clone())],
                (1, None),
            ),
            (
                "half a call",
                TimedUnit::Call,
                vec![(0, half.clone()), (HOUR, other_half.clone())],
                (1, unavailable),
            ),
            (
                "half an upload",
                TimedUnit::Part,
                vec![(4, half.clone()), (4, other_half.clone())],
                (1, unavailable),
            ),
            (
                "a stream that was silent",
                TimedUnit::Message,
                vec![(0, message.clone()), (HOUR, message.clone())],
                (1, None),
            ),
            (
                "a stream that never started",
                TimedUnit::Message,
                vec![(HOUR, message.clone())],
                (0, None),
            ),
            (
                "half a message of a stream",
                TimedUnit::Message,
                vec![(0, message.clone()), (0, half.clone()), (HOUR, other_half)],
                (2, unavailable),
            ),
            (
                "a stream that continues",
                TimedUnit::Message,
                vec![(2, message.clone()); 100],
                (2, None),
            ),
            (
                "a stream that its service ends",
                TimedUnit::MessageUntilServiceEnds,
                vec![(2, message.clone()); 100],
                (100, None),
            ),
        ];
        for (what, unit, parts, expected) in cases {
            let stop = CancellationToken::new();
            let stops = stop.clone();
            tokio::spawn(async move {
                sleep(Duration::from_secs(5)).await;
                stops.cancel();
            });
            let received = receive_until(stop, "SHUTTING_DOWN", unit, parts).await;
            assert_eq!(received, expected, "{what}");
        }
    }

    #[test]
    fn the_limit_applies_to_whole_calls_unless_their_path_is_listed() {
        let limit = ArrivalLimit::new(
            TIME,
            &[
                ("/a.B/Upload", TimedUnit::Part),
                ("/a.B/Talk", TimedUnit::Message),
            ],
            CancellationToken::new(),
        );
        for (path, expected) in [
            ("/a.B/Ask", TimedUnit::Call),
            ("/a.B/Upload", TimedUnit::Part),
            ("/a.B/Talk", TimedUnit::Message),
            ("/a.C/Talk", TimedUnit::Call),
            ("//a.B/Talk", TimedUnit::Call),
            ("", TimedUnit::Call),
            ("/grpc.health.v1.Health/Watch", TimedUnit::Call),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                TimedUnit::Message,
            ),
        ] {
            assert_eq!(limit.timed_unit(path), expected, "{path}");
        }
    }
}
