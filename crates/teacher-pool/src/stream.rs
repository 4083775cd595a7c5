//! One stream to one teacher: batches go up as far as the credit allows, soft targets come down.

use std::{collections::VecDeque, pin::pin, time::Duration};

use prost::Message as _;
use proto::teacher::v1::{
    self as wire, Batch, Numerics, Open, Opened, StreamSoftTargetsRequest,
    StreamSoftTargetsResponse, Tensor, batch::Input,
    stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use server::{back_off::BackOff, security::client::Channel};
use soft_targets::{DataReference, DrawSeeds, Encoding, SoftTargets, data_type_to_wire};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    batch::TeacherBatch,
    candidate::Candidate,
    connection_end::ConnectionEnd,
    error::PoolError,
    health,
    in_flight::{InFlightBatches, PendingRequest},
    observer::{SentAs, SentRequest},
    parts::{self, PartAnswers},
    shared::Shared,
    teacher::{TeacherAddress, TeacherStatus},
    unanswered::{Assignment, BatchNumber},
};

/// Time limit for the answer to `Open`.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for the answer to an `Open` that names the run's data, of which the teacher reads some samples.
const OPEN_WITH_DATA_TIMEOUT: Duration = Duration::from_secs(60);

/// Streams until the teacher is lost, shuts down or is refused. Sends no more batches once `removed` completes. The
/// batches that the teacher has not answered return to the queue.
pub(crate) async fn run(
    candidate: Candidate,
    teacher: &TeacherAddress,
    shared: &Shared,
    removed: impl Future<Output = ()>,
    back_off: &mut BackOff,
) -> ConnectionEnd {
    let channel = candidate.channel.clone();
    let not_serving = health::until_not_serving(channel.clone());
    let images_per_request =
        candidate.images_per_request(&shared.interface, shared.config.encoding);
    let data = common_data(&candidate, teacher, shared);
    let limit = match data {
        Some(_) => OPEN_WITH_DATA_TIMEOUT,
        None => OPEN_TIMEOUT,
    };
    let opened = timeout(limit, open(candidate, shared.config.encoding, data)).await;
    let opened = opened.unwrap_or_else(|_| {
        let reason = format!("the stream was not opened within {limit:?}");
        Err(ConnectionEnd::Lost(reason))
    });
    let (outbound, inbound, opened) = match opened {
        Ok(opened) => opened,
        Err(end) => return end,
    };
    if data.is_some() {
        report_content(&opened, teacher, shared);
    }
    shared.roster.set(teacher, TeacherStatus::Connected);
    let mut stream = TeacherStream {
        teacher,
        shared,
        credit: opened.credit,
        by_reference: data.is_some() && opened.by_reference,
        images_per_request,
        outbound: Some(outbound),
        finishing: None,
        unsent: VecDeque::new(),
        in_flight: InFlightBatches::new(&shared.queue),
        answered: 0,
        last_activity: Instant::now(),
    };
    let end = stream.run(inbound, channel, removed, not_serving).await;
    if stream.answered > 0 {
        back_off.reset();
    }
    match end {
        ConnectionEnd::Lost(reason) => ConnectionEnd::Lost(stream.requeue_after(&reason)),
        ConnectionEnd::ProtocolViolation(reason) => {
            ConnectionEnd::ProtocolViolation(stream.requeue_after(&reason))
        }
        end @ (ConnectionEnd::Finished(_)
        | ConnectionEnd::Unsuitable(_)
        | ConnectionEnd::Duplicate { .. }) => end,
    }
}

type Outbound = mpsc::UnboundedSender<StreamSoftTargetsRequest>;
type Inbound = Streaming<StreamSoftTargetsResponse>;

/// The run's data, if the teacher says that it has the same.
fn common_data<'s>(
    candidate: &Candidate,
    teacher: &TeacherAddress,
    shared: &'s Shared,
) -> Option<&'s DataReference> {
    let data = shared.expected.data.as_ref()?;
    let (found, wanted) = (
        candidate.data_fingerprint.as_ref()?,
        &data.split_fingerprint,
    );
    if found == wanted {
        return Some(data);
    }
    shared.observer.notice(format!(
        "teacher {teacher} has another data set ({found:.12}) than the run trains on ({wanted:.12}); it gets pixels"
    ));
    None
}

/// Reports what a teacher with the run's data gets.
fn report_content(opened: &Opened, teacher: &TeacherAddress, shared: &Shared) {
    shared.observer.notice(if opened.by_reference {
        format!(
            "teacher {teacher} has the run's data; it gets references to samples instead of pixels"
        )
    } else {
        let reason = &opened.not_by_reference_because;
        format!("teacher {teacher} takes no references to the run's data and gets pixels: {reason}")
    });
}

/// Opens the stream; returns both directions and the teacher's answer.
async fn open(
    mut candidate: Candidate,
    encoding: Encoding,
    data: Option<&DataReference>,
) -> Result<(Outbound, Inbound, Opened), ConnectionEnd> {
    // The credit bounds the channel: a request is sent only while fewer are in flight.
    let (outbound, requests) = mpsc::unbounded_channel();
    let open = Open {
        model_id: candidate.identity.model_id,
        numerics: Some(Numerics {
            descriptor: candidate.identity.numerics,
            probe_sha256: candidate.identity.probe_sha256,
        }),
        data: data.map(DataReference::to_wire),
        ..encoding.to_open()
    };
    send(&outbound, Request::Open(open));
    let requests = UnboundedReceiverStream::new(requests);
    let mut inbound = candidate
        .client
        .stream_soft_targets(requests)
        .await
        .map_err(|status| connection_end(&status))?
        .into_inner();
    match next_message(&mut inbound).await? {
        Some(Response::Opened(opened)) => Ok((outbound, inbound, opened)),
        Some(Response::Draining(_)) => Err(ConnectionEnd::Finished(TeacherStatus::ShuttingDown)),
        Some(_) => Err(ConnectionEnd::ProtocolViolation(
            "did not answer Open with Opened".into(),
        )),
        None => Err(ConnectionEnd::Lost(
            "the stream ended before it was opened".into(),
        )),
    }
}

/// One part of a batch.
struct BatchPart {
    batch: BatchNumber,
    /// Its index among the parts of the batch.
    part: usize,
    samples: usize,
    input: Input,
    seeds: DrawSeeds,
}

/// An open stream.
struct TeacherStream<'a> {
    teacher: &'a TeacherAddress,
    shared: &'a Shared,
    /// The largest number of requests that the teacher accepts in flight.
    credit: u32,
    /// Whether the teacher takes positions in the run's data.
    by_reference: bool,
    /// The largest number of images that fit into one message.
    images_per_request: usize,
    /// `None` once the stream sends no more batches: the end of the requests informs the teacher.
    outbound: Option<Outbound>,
    /// Why the stream sends no more batches.
    finishing: Option<TeacherStatus>,
    /// Parts of the batch taken last that wait for credit.
    unsent: VecDeque<BatchPart>,
    in_flight: InFlightBatches<'a>,
    /// Number of whole batches answered.
    answered: u64,
    /// The latest of: the teacher's last answer, the last request that was sent while it had none, the end of the
    /// requests.
    last_activity: Instant,
}

impl TeacherStream<'_> {
    async fn run(
        &mut self,
        mut inbound: Inbound,
        channel: Channel,
        removed: impl Future<Output = ()>,
        not_serving: impl Future<Output = String>,
    ) -> ConnectionEnd {
        let (mut removed, mut not_serving) = (pin!(removed), pin!(not_serving));
        let mut answer_timer = pin!(sleep_until(self.answer_deadline()));
        let mut unresponsive = pin!(health::until_unresponsive(channel.clone(), false));
        let queue = &self.shared.queue;
        loop {
            let is_open = self.outbound.is_some();
            let takes_batches = is_open
                && self.unsent.is_empty()
                && self.in_flight.batches.len() < self.max_batches();
            tokio::select! {
                biased;
                received = next_message(&mut inbound) => match received {
                    Ok(Some(response)) => {
                        if let Err(reason) = self.receive(response) {
                            return ConnectionEnd::ProtocolViolation(reason);
                        }
                    }
                    Ok(None) => return match self.finishing.take() {
                        Some(status) => ConnectionEnd::Finished(status),
                        None => ConnectionEnd::Lost("the teacher ended the stream".into()),
                    },
                    Err(end) => return end,
                },
                batch = queue.pull(self.in_flight.stream), if takes_batches => self.submit(batch),
                () = &mut answer_timer => match self.answer_deadline() {
                    deadline if deadline <= Instant::now() => {
                        let limit = self.shared.config.answer_timeout();
                        return ConnectionEnd::Lost(format!("no answer within {limit:?}"));
                    }
                    deadline => answer_timer.as_mut().reset(deadline),
                },
                reason = &mut unresponsive => {
                    if self.was_idle_for(health::CHECK_TIMEOUT) {
                        return ConnectionEnd::Lost(reason);
                    }
                    // The answer time-out covers a teacher that computes. It had answered a check before this one.
                    unresponsive.set(health::until_unresponsive(channel.clone(), true));
                }
                () = &mut removed, if is_open => self.finish(TeacherStatus::Removed),
                reason = &mut not_serving, if is_open => {
                    self.finish(TeacherStatus::Unavailable(reason));
                }
            }
        }
    }

    /// When the teacher must have answered a request or ended the stream. The deadline is for the next answer, not for
    /// each batch, because a batch may wait behind others.
    fn answer_deadline(&self) -> Instant {
        let is_idle = self.in_flight.requests.is_empty() && self.outbound.is_some();
        let since = if is_idle {
            Instant::now()
        } else {
            self.last_activity
        };
        since + self.shared.config.answer_timeout()
    }

    /// Whether the teacher has had no request for `time`.
    fn was_idle_for(&self, time: Duration) -> bool {
        self.in_flight.requests.is_empty() && self.last_activity.elapsed() >= time
    }

    /// Stops sending. The teacher may still answer the batches that it has completely; a batch of which it has only some
    /// parts returns to the queue.
    fn finish(&mut self, status: TeacherStatus) {
        self.outbound = None;
        let unsent = std::mem::take(&mut self.unsent);
        self.in_flight.requeue(unsent.iter().map(|part| part.batch));
        self.last_activity = Instant::now();
        self.shared.roster.set(self.teacher, status.clone());
        self.finishing = Some(status);
    }

    /// How many batches the stream may have: at most the credit, and at most an equal share of the run's prefetch, so
    /// that one teacher does not take the batches of the others.
    fn max_batches(&self) -> usize {
        let teachers = self.shared.roster.connected().max(1);
        let share = self.shared.config.prefetch.div_ceil(teachers);
        share.min(self.credit as usize)
    }

    fn submit(&mut self, batch: Assignment) {
        let Assignment { number, batch } = batch;
        let TeacherBatch {
            data,
            samples,
            seeds,
            references,
        } = batch;
        let references = references.filter(|_| self.by_reference);
        let expected = &self.shared.interface.input;
        // Holds: a candidate's input was checked when it connected.
        let data_type = data_type_to_wire(expected.data_type).unwrap_or_default();
        let sample_shape = expected.dimensions.sample_shape().unwrap_or_default();
        let sample_bytes = data.len() / samples.max(1);
        // References are split as pixels are: the teacher computes the same requests.
        let ranges = parts::split(samples, self.images_per_request).enumerate();
        let parts = ranges.map(|(part, range)| {
            let input = match &references {
                Some(references) => Input::References(references.slice(range.clone()).to_wire()),
                None => {
                    let dimensions = [range.len()]
                        .into_iter()
                        .chain(sample_shape.iter().copied());
                    Input::Tensor(Tensor {
                        data_type: data_type.into(),
                        shape: dimensions.map(|size| size as u64).collect(),
                        data: data.slice(range.start * sample_bytes..range.end * sample_bytes),
                    })
                }
            };
            BatchPart {
                batch: number,
                part,
                samples: range.len(),
                input,
                seeds: seeds.slice(range),
            }
        });
        self.unsent.extend(parts);
        let answers = PartAnswers::new(self.unsent.len());
        self.in_flight.batches.insert(number, answers);
        self.send_unsent();
    }

    /// Sends parts of the batch taken last, as far as the credit allows.
    fn send_unsent(&mut self) {
        let Some(outbound) = &self.outbound else {
            return;
        };
        while self.in_flight.requests.len() < self.credit as usize
            && let Some(part) = self.unsent.pop_front()
        {
            if self.in_flight.requests.is_empty() {
                self.last_activity = Instant::now();
            }
            let sent_as = match part.input {
                Input::Tensor(_) => SentAs::Pixels,
                Input::References(_) => SentAs::References,
            };
            let request = Batch {
                id: self.in_flight.next_request,
                input: Some(part.input),
                draw_seeds: part.seeds.to_wire(),
            };
            self.shared.observer.request_sent(SentRequest {
                sent_as,
                samples: part.samples,
                bytes: request.encoded_len(),
            });
            let pending = PendingRequest {
                batch: part.batch,
                part: part.part,
                samples: part.samples,
                sent_as,
            };
            self.in_flight.requests.insert(request.id, pending);
            self.in_flight.next_request += 1;
            send(outbound, Request::Batch(request));
        }
    }

    /// # Errors
    /// How the response violates the protocol.
    fn receive(&mut self, response: Response) -> Result<(), String> {
        match response {
            Response::SoftTargets(targets) => self.receive_targets(targets),
            Response::BatchError(wire::BatchError {
                id,
                reason,
                send_tensor,
            }) => {
                let PendingRequest { batch, sent_as, .. } = self.in_flight.take_request(id)?;
                if send_tensor && sent_as == SentAs::References {
                    self.send_pixels_instead(batch, &reason);
                    return Ok(());
                }
                let teacher = self.teacher.to_string();
                let error = PoolError::BatchRefused { teacher, reason };
                self.unsent.retain(|part| part.batch != batch);
                self.in_flight.resolve(batch, Err(error));
                self.send_unsent();
                Ok(())
            }
            Response::Credit(wire::Credit { credit }) => {
                self.credit = credit;
                self.send_unsent();
                Ok(())
            }
            Response::Draining(_) => {
                self.finish(TeacherStatus::ShuttingDown);
                Ok(())
            }
            Response::Opened(_) => Err("sent Opened on an open stream".into()),
        }
    }

    /// Returns a batch to the queue whose samples the teacher cannot read, and sends it no more references.
    fn send_pixels_instead(&mut self, batch: BatchNumber, reason: &str) {
        if std::mem::take(&mut self.by_reference) {
            self.shared.observer.notice(format!(
                "teacher {} cannot read the run's data any more and gets pixels: {reason}",
                self.teacher
            ));
        }
        self.last_activity = Instant::now();
        self.unsent.retain(|part| part.batch != batch);
        self.in_flight.requeue(std::iter::once(batch));
        self.send_unsent();
    }

    fn receive_targets(&mut self, targets: wire::SoftTargets) -> Result<(), String> {
        let PendingRequest {
            batch,
            part,
            samples,
            ..
        } = self.in_flight.take_request(targets.id)?;
        let (encoding, classes) = (self.shared.config.encoding, self.shared.expected.classes);
        let soft_targets = SoftTargets::from_wire(targets, encoding, samples, classes)
            .map_err(|reason| format!("sent an invalid answer: {reason}"))?;
        self.last_activity = Instant::now();
        // The batch is absent if it has returned to the queue.
        let answers = self.in_flight.batches.get_mut(&batch);
        if let Some(whole) = answers.and_then(|answers| answers.add(part, soft_targets)) {
            self.in_flight.resolve(batch, Ok(whole));
            self.answered += 1;
        }
        self.send_unsent();
        Ok(())
    }

    /// Returns the teacher's batches to the queue after a loss for `reason`; returns the reason with the numbers.
    fn requeue_after(&mut self, reason: &str) -> String {
        let requeued = self.in_flight.requeue_all();
        let answered = self.answered;
        format!("{reason} (answered {answered} batches; {requeued} return to the queue)")
    }
}

/// Waits for the teacher's next message; returns `None` at the end of the stream.
async fn next_message(inbound: &mut Inbound) -> Result<Option<Response>, ConnectionEnd> {
    match inbound.message().await {
        Ok(Some(response)) => match response.message {
            Some(message) => Ok(Some(message)),
            None => Err(ConnectionEnd::ProtocolViolation(
                "sent an unknown message".into(),
            )),
        },
        Ok(None) => Ok(None),
        Err(status) => Err(connection_end(&status)),
    }
}

/// Sends a message. Ignores an error: the stream is broken then, which the inbound direction reports.
fn send(outbound: &Outbound, message: Request) {
    let _ = outbound.send(StreamSoftTargetsRequest {
        message: Some(message),
    });
}

fn connection_end(status: &Status) -> ConnectionEnd {
    let reason = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        // Another teacher was started between Describe and Open, or a token was replaced, which the next connection
        // reads anew.
        Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => {
            ConnectionEnd::Unsuitable(format!("refuses the stream: {reason}"))
        }
        // The teacher cannot process what this run sends, and another attempt would not change that.
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            ConnectionEnd::ProtocolViolation(format!("refuses the stream: {reason}"))
        }
        _ => ConnectionEnd::Lost(reason),
    }
}
