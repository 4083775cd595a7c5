//! One stream to one teacher: batches go up as credit allows, soft targets come down.

use std::{collections::VecDeque, pin::pin, time::Duration};

use proto::teacher::v1::{
    self as wire, Batch, DataType, Numerics, Open, StreamSoftTargetsRequest,
    StreamSoftTargetsResponse, Tensor, batch, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use server::security::client::Channel;
use soft_targets::{Encoding, SoftTargets};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    back_off::BackOff,
    candidate::Candidate,
    connection_end::Ended,
    error::PoolError,
    health,
    in_flight::{Asked, InFlight},
    parts::{self, Answers},
    place::{Place, Standing},
    shared::Shared,
    unanswered::{Assignment, BatchNumber},
};

/// Deadline for the answer to Open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams until the teacher is lost, drained or found unfit, or until `released`. What it has not
/// answered when it is lost goes back to the queue.
pub(crate) async fn serve(
    candidate: Candidate,
    place: &Place,
    shared: &Shared,
    released: impl Future<Output = ()>,
    back_off: &mut BackOff,
) -> Ended {
    let channel = candidate.channel.clone();
    let unhealthy = health::until_not_serving(channel.clone());
    let images_a_request = candidate.images_a_request(&shared.expected, shared.config.encoding);
    let opened = timeout(OPEN_TIMEOUT, open(candidate, shared.config.encoding)).await;
    let opened = opened.unwrap_or_else(|_| {
        let reason = format!("the stream was not opened within {OPEN_TIMEOUT:?}");
        Err(Ended::Lost(reason))
    });
    let (outbound, inbound, credit) = match opened {
        Ok(opened) => opened,
        Err(ended) => return ended,
    };
    shared.roster.set(place, Standing::Connected);
    let mut stream = TeacherStream {
        place,
        shared,
        credit,
        images_a_request,
        outbound: Some(outbound),
        finishing: None,
        unsent: VecDeque::new(),
        in_flight: InFlight::new(&shared.queue),
        answered: 0,
        last_heard: Instant::now(),
    };
    let ended = stream.pump(inbound, channel, released, unhealthy).await;
    if stream.answered > 0 {
        back_off.reset();
    }
    match ended {
        Ended::Lost(reason) => Ended::Lost(stream.account(&reason)),
        Ended::Misbehaved(reason) => Ended::Misbehaved(stream.account(&reason)),
        ended @ (Ended::Finished(_) | Ended::Unfit(_) | Ended::Spare { .. }) => ended,
    }
}

type Outbound = mpsc::UnboundedSender<StreamSoftTargetsRequest>;
type Inbound = Streaming<StreamSoftTargetsResponse>;

/// Opens the stream; gives both directions and the teacher's credit.
async fn open(
    mut candidate: Candidate,
    encoding: Encoding,
) -> Result<(Outbound, Inbound, u32), Ended> {
    // Bounded by the credit: a batch is sent only while fewer are in flight.
    let (outbound, requests) = mpsc::unbounded_channel();
    let (encoding, k) = encoding.to_wire();
    let open = Open {
        model_id: candidate.identity.model_id,
        numerics: Some(Numerics {
            descriptor: candidate.identity.numerics,
            probe_sha256: candidate.identity.probe_sha256,
        }),
        encoding: encoding.into(),
        k,
    };
    send(&outbound, Request::Open(open));
    let requests = UnboundedReceiverStream::new(requests);
    let mut inbound = candidate
        .client
        .stream_soft_targets(requests)
        .await
        .map_err(|status| refused_or_lost(&status))?
        .into_inner();
    match message(&mut inbound).await? {
        Some(Response::Opened(opened)) => Ok((outbound, inbound, opened.credit)),
        Some(Response::Draining(_)) => Err(Ended::Finished(Standing::ShuttingDown)),
        Some(_) => Err(Ended::Misbehaved("did not answer Open with Opened".into())),
        None => Err(Ended::Lost("the stream ended before it was opened".into())),
    }
}

/// A part of a batch.
struct Part {
    batch: BatchNumber,
    /// Its position among the batch's parts.
    part: usize,
    samples: usize,
    tensor: Tensor,
}

/// An open stream.
struct TeacherStream<'a> {
    place: &'a Place,
    shared: &'a Shared,
    /// Requests that the teacher wants in flight at most.
    credit: u32,
    /// Images of the largest part of a batch that fits a message.
    images_a_request: usize,
    /// Absent once the teacher gets no more: it is told so by the end of the requests.
    outbound: Option<Outbound>,
    /// Why it gets no more.
    finishing: Option<Standing>,
    /// Parts of batches that wait for credit.
    unsent: VecDeque<Part>,
    in_flight: InFlight<'a>,
    answered: u64,
    /// When the teacher's last answer came, or it got a batch while it had none, or its last one.
    last_heard: Instant,
}

impl TeacherStream<'_> {
    async fn pump(
        &mut self,
        mut inbound: Inbound,
        channel: Channel,
        released: impl Future<Output = ()>,
        unhealthy: impl Future<Output = String>,
    ) -> Ended {
        let (mut released, mut unhealthy) = (pin!(released), pin!(unhealthy));
        let mut silence = pin!(sleep_until(self.answer_due()));
        let mut silent = pin!(health::until_silent(channel.clone()));
        let queue = &self.shared.queue;
        loop {
            let gets_more = self.outbound.is_some();
            let waits = !self.unsent.is_empty();
            let has_room = gets_more && !waits && self.in_flight.batches.len() < self.share();
            tokio::select! {
                biased;
                received = message(&mut inbound) => match received {
                    Ok(Some(response)) => {
                        if let Err(reason) = self.receive(response) {
                            return Ended::Misbehaved(reason);
                        }
                    }
                    Ok(None) => return match self.finishing.take() {
                        Some(why) => Ended::Finished(why),
                        None => Ended::Lost("the teacher ended the stream".into()),
                    },
                    Err(ended) => return ended,
                },
                batch = queue.pull(self.in_flight.stream), if has_room => self.submit(batch),
                () = &mut silence => match self.answer_due() {
                    due if due <= Instant::now() => {
                        let limit = self.shared.config.answer_timeout();
                        return Ended::Lost(format!("no answer within {limit:?}"));
                    }
                    due => silence.as_mut().reset(due),
                },
                reason = &mut silent => {
                    if self.was_idle_for(health::CHECK_TIME) {
                        return Ended::Lost(reason);
                    }
                    // While it computes, the time for an answer counts.
                    silent.set(health::until_silent(channel.clone()));
                }
                () = &mut released, if gets_more => self.finish(Standing::Released),
                reason = &mut unhealthy, if gets_more => self.finish(Standing::Away(reason)),
            }
        }
    }

    /// When the teacher has to have answered, or ended the stream: a deadline for each answer, not
    /// for each batch, since a batch may wait behind others.
    fn answer_due(&self) -> Instant {
        let idle = self.in_flight.requests.is_empty() && self.outbound.is_some();
        let since = if idle {
            Instant::now()
        } else {
            self.last_heard
        };
        since + self.shared.config.answer_timeout()
    }

    /// Whether it has had no batch for `time`.
    fn was_idle_for(&self, time: Duration) -> bool {
        self.in_flight.requests.is_empty() && self.last_heard.elapsed() >= time
    }

    /// Sends no more; what the teacher has, it may still answer. What it has a part of only, others get.
    fn finish(&mut self, why: Standing) {
        self.outbound = None;
        let unsent = std::mem::take(&mut self.unsent);
        self.in_flight
            .give_back_these(unsent.iter().map(|part| part.batch));
        self.last_heard = Instant::now();
        self.shared.roster.set(self.place, why.clone());
        self.finishing = Some(why);
    }

    /// How many batches to hold: as the credit allows, but no more than an equal part of what the
    /// run has in flight, so that the first to look does not take the others' work.
    fn share(&self) -> usize {
        let teachers = self.shared.roster.connected().max(1);
        let part = self.shared.config.prefetch.div_ceil(teachers);
        part.min(self.credit as usize)
    }

    fn submit(&mut self, batch: Assignment) {
        let Assignment {
            number,
            pixels,
            shape: [images, shape @ ..],
        } = batch;
        let image_bytes = pixels.len() / images.max(1);
        let parts = parts::split(images, self.images_a_request).map(|range| {
            let dimensions = [range.len(), shape[0], shape[1], shape[2]];
            let tensor = Tensor {
                data_type: DataType::U8.into(),
                shape: dimensions.map(|size| size as u64).to_vec(),
                data: pixels.slice(range.start * image_bytes..range.end * image_bytes),
            };
            (range.len(), tensor)
        });
        let parts = parts.enumerate().map(|(part, (samples, tensor))| Part {
            batch: number,
            part,
            samples,
            tensor,
        });
        self.unsent.extend(parts);
        let answers = Answers::new(self.unsent.len());
        self.in_flight.batches.insert(number, answers);
        self.send_unsent();
    }

    /// Sends parts of the batch that was taken last, as far as the credit allows.
    fn send_unsent(&mut self) {
        let Some(outbound) = &self.outbound else {
            return;
        };
        while self.in_flight.requests.len() < self.credit as usize
            && let Some(part) = self.unsent.pop_front()
        {
            if self.in_flight.requests.is_empty() {
                self.last_heard = Instant::now();
            }
            let request = Batch {
                id: self.in_flight.next_request,
                input: Some(batch::Input::Tensor(part.tensor)),
            };
            let asked = Asked {
                batch: part.batch,
                part: part.part,
                samples: part.samples,
            };
            self.in_flight.requests.insert(request.id, asked);
            self.in_flight.next_request += 1;
            send(outbound, Request::Batch(request));
        }
    }

    fn receive(&mut self, response: Response) -> Result<(), String> {
        match response {
            Response::SoftTargets(targets) => self.settle(targets),
            Response::BatchError(wire::BatchError { id, reason }) => {
                let Asked { batch, .. } = self.in_flight.answered(id)?;
                let teacher = self.place.to_string();
                let error = PoolError::BatchRefused { teacher, reason };
                self.unsent.retain(|part| part.batch != batch);
                self.in_flight.settle(batch, Err(error));
                self.send_unsent();
                Ok(())
            }
            Response::Credit(wire::Credit { credit }) => {
                self.credit = credit;
                self.send_unsent();
                Ok(())
            }
            Response::Draining(_) => {
                self.finish(Standing::ShuttingDown);
                Ok(())
            }
            Response::Opened(_) => Err("opened an open stream".into()),
        }
    }

    fn settle(&mut self, targets: wire::SoftTargets) -> Result<(), String> {
        let Asked {
            batch,
            part,
            samples,
        } = self.in_flight.answered(targets.id)?;
        let (encoding, classes) = (self.shared.config.encoding, self.shared.expected.classes);
        let soft_targets = SoftTargets::from_wire(targets, encoding, samples, classes)
            .map_err(|reason| format!("gave a wrong answer: {reason}"))?;
        self.last_heard = Instant::now();
        // A batch that went back to the queue needs no answer from here.
        let answers = self.in_flight.batches.get_mut(&batch);
        if let Some(whole) = answers.and_then(|answers| answers.add(part, soft_targets)) {
            self.in_flight.settle(batch, Ok(whole));
            self.answered += 1;
        }
        self.send_unsent();
        Ok(())
    }

    fn account(&mut self, reason: &str) -> String {
        let back = self.in_flight.give_back();
        let answered = self.answered;
        format!("{reason} (answered {answered} batches; {back} go back to the queue)")
    }
}

/// The teacher's next message; `None` at the end of the stream.
async fn message(inbound: &mut Inbound) -> Result<Option<Response>, Ended> {
    match inbound.message().await {
        Ok(Some(response)) => match response.message {
            Some(message) => Ok(Some(message)),
            None => Err(Ended::Misbehaved("sent an unknown message".into())),
        },
        Ok(None) => Ok(None),
        Err(status) => Err(refused_or_lost(&status)),
    }
}

/// Sends, or not, when the stream is broken: the other direction tells.
fn send(outbound: &Outbound, message: Request) {
    let _ = outbound.send(StreamSoftTargetsRequest {
        message: Some(message),
    });
}

fn refused_or_lost(status: &Status) -> Ended {
    let reason = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        // Between Describe and Open another teacher was started there, or a token was replaced, which
        // the next connection reads anew.
        Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => {
            Ended::Unfit(format!("refuses the stream: {reason}"))
        }
        // The teacher cannot take what this run sends, and never will.
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            Ended::Misbehaved(format!("refuses the stream: {reason}"))
        }
        _ => Ended::Lost(reason),
    }
}
