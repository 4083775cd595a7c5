//! One stream to one teacher: batches go up as credit allows, soft targets come down.

use std::{collections::BTreeMap, time::Duration};

use common::soft_targets::{Encoding, SoftTargets};
use proto::teacher::v1::{
    self as wire, Batch, DataType, Numerics, Open, StreamSoftTargetsRequest,
    StreamSoftTargetsResponse, Tensor, batch, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    PoolError, Shared,
    back_off::BackOff,
    candidate::Candidate,
    member::Ended,
    queue::{BatchNumber, BatchQueue, PendingBatch},
    roster::{Place, Standing},
};

/// Deadline for the answer to Open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams until the teacher is lost, drained or found unfit. What it has not answered then goes
/// back to the queue.
pub(super) async fn serve(
    candidate: Candidate,
    place: &Place,
    shared: &Shared,
    back_off: &mut BackOff,
) -> Ended {
    let opened = timeout(OPEN_TIMEOUT, open(candidate, shared.config.encoding)).await;
    let opened = opened.unwrap_or_else(|_| {
        let reason = format!("the stream was not opened within {OPEN_TIMEOUT:?}");
        Err(Ended::Lost(reason))
    });
    let (outbound, inbound, credit) = match opened {
        Ok(opened) => opened,
        Err(ended) => return ended,
    };
    back_off.reset();
    shared.roster.set(place, Standing::Connected);
    let mut stream = TeacherStream {
        place,
        shared,
        credit,
        outbound: Some(outbound),
        in_flight: InFlight {
            batches: BTreeMap::new(),
            queue: &shared.queue,
        },
        answered: 0,
    };
    match stream.pump(inbound).await {
        Ended::Lost(reason) => Ended::Lost(stream.account(&reason)),
        Ended::Misbehaved(reason) => Ended::Misbehaved(stream.account(&reason)),
        ended @ (Ended::Drained | Ended::Unfit(_)) => ended,
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
        Some(Response::Draining(_)) => Err(Ended::Drained),
        Some(_) => Err(Ended::Misbehaved("did not answer Open with Opened".into())),
        None => Err(Ended::Lost("the stream ended before it was opened".into())),
    }
}

/// An open stream.
struct TeacherStream<'a> {
    place: &'a Place,
    shared: &'a Shared,
    /// Batches that the teacher wants in flight at most.
    credit: u32,
    /// Absent once the teacher drains: it is told so by the end of the requests.
    outbound: Option<Outbound>,
    in_flight: InFlight<'a>,
    answered: u64,
}

impl TeacherStream<'_> {
    async fn pump(&mut self, mut inbound: Inbound) -> Ended {
        loop {
            let wants_more = self.outbound.is_some() && self.in_flight.batches.len() < self.share();
            tokio::select! {
                biased;
                received = message(&mut inbound) => match received {
                    Ok(Some(response)) => {
                        if let Err(reason) = self.receive(response) {
                            return Ended::Misbehaved(reason);
                        }
                    }
                    Ok(None) if self.outbound.is_none() => return Ended::Drained,
                    Ok(None) => return Ended::Lost("the teacher ended the stream".into()),
                    Err(ended) => return ended,
                },
                batch = self.shared.queue.pull(), if wants_more => self.submit(batch),
            }
        }
    }

    /// How many batches to hold: as the credit allows, but no more than an equal part of what the
    /// run has in flight, so that the first to look does not take the others' work.
    fn share(&self) -> usize {
        let teachers = self.shared.roster.connected().max(1);
        let part = self.shared.config.prefetch.div_ceil(teachers);
        part.min(self.credit as usize)
    }

    fn submit(&mut self, batch: PendingBatch) {
        let tensor = Tensor {
            data_type: DataType::U8.into(),
            shape: batch.shape.map(|size| size as u64).to_vec(),
            data: batch.pixels.clone(),
        };
        let request = Batch {
            id: batch.number.0,
            input: Some(batch::Input::Tensor(tensor)),
        };
        self.in_flight.batches.insert(batch.number, batch);
        if let Some(outbound) = &self.outbound {
            send(outbound, Request::Batch(request));
        }
    }

    fn receive(&mut self, response: Response) -> Result<(), String> {
        match response {
            Response::SoftTargets(targets) => self.settle(targets),
            Response::BatchError(wire::BatchError { id, reason }) => {
                let teacher = self.place.to_string();
                let error = PoolError::BatchRefused { teacher, reason };
                self.in_flight.take(id)?.answer(Err(error));
                Ok(())
            }
            Response::Credit(wire::Credit { credit }) => {
                self.credit = credit;
                Ok(())
            }
            Response::Draining(_) => {
                self.outbound = None;
                self.shared.roster.set(self.place, Standing::ShuttingDown);
                Ok(())
            }
            Response::Opened(_) => Err("opened an open stream".into()),
        }
    }

    fn settle(&mut self, targets: wire::SoftTargets) -> Result<(), String> {
        let batch = self.in_flight.take(targets.id)?;
        let (encoding, classes) = (self.shared.config.encoding, self.shared.expected.classes);
        match SoftTargets::from_wire(targets, encoding, batch.shape[0], classes) {
            Ok(soft_targets) => {
                self.answered += 1;
                batch.answer(Ok(soft_targets));
                Ok(())
            }
            Err(reason) => {
                self.in_flight.batches.insert(batch.number, batch);
                Err(format!("gave a wrong answer: {reason}"))
            }
        }
    }

    fn account(&self, reason: &str) -> String {
        let back = self.in_flight.batches.len();
        let answered = self.answered;
        format!("{reason} (answered {answered} batches; {back} go back to the queue)")
    }
}

/// Batches that the teacher has; those left go back to the queue however the stream ends.
struct InFlight<'a> {
    batches: BTreeMap<BatchNumber, PendingBatch>,
    queue: &'a BatchQueue,
}

impl InFlight<'_> {
    fn take(&mut self, id: u64) -> Result<PendingBatch, String> {
        self.batches
            .remove(&BatchNumber(id))
            .ok_or_else(|| format!("answered batch {id}, which it does not have"))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.queue.requeue(std::mem::take(&mut self.batches));
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
        // Between Describe and Open another teacher was started there.
        Code::FailedPrecondition => Ended::Unfit(format!("refuses the stream: {reason}")),
        // The teacher cannot take what this run sends, and never will.
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated => Ended::Misbehaved(format!("refuses the stream: {reason}")),
        _ => Ended::Lost(reason),
    }
}
