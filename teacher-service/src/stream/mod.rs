//! The stream of one trainer: reads batches and sends answers; the credit limits the batches in flight.

mod incoming;
mod responses;

use std::{sync::Arc, time::Duration, time::Instant};

use artifacts::manifest::TeacherIdentity;
use proto::teacher::v1::{
    self as wire, Draining, Open, Opened, StreamSoftTargetsRequest,
    stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use soft_targets::{DataReference, DrawSeeds, Encoding};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{info, warn};

use crate::{
    compute::{Compute, Job},
    error::StreamError,
    loaded_teacher::LoadedTeacher,
    metrics,
    queue::StreamId,
    shared_data::{RunSamples, SharedData},
};
use incoming::{Incoming, Refusal};

pub use responses::{Answers, Responses};

/// Longest time for the first message of a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// While draining, the stream of a trainer that has all its answers ends after this long without a request.
const QUIET: Duration = Duration::from_millis(500);

/// Signals with which the service stops its streams.
#[derive(Debug, Clone, Default)]
pub struct Stopping {
    /// Streams finish the batches in flight, then end.
    pub drain: CancellationToken,
    /// Streams end at once.
    pub cut: CancellationToken,
}

/// The reading half of a stream; [`Responses`] is the writing half.
pub struct Session {
    id: StreamId,
    compute: Compute,
    data: Option<SharedData>,
    answers: Answers,
    /// One permit for each batch that the trainer may still send. A batch holds its permit until the transport
    /// takes its answer, so a trainer that does not read its answers cannot fill the memory.
    credit: Arc<Semaphore>,
    limits: StreamLimits,
    stopping: Stopping,
}

/// Limits of one stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Batches in flight.
    pub credit: u32,
    /// Longest time for which a trainer may leave a waiting answer unread.
    pub reader_timeout: Duration,
    /// Largest batch, also if it is rendered here, bytes.
    pub max_batch_bytes: usize,
}

/// What a trainer asked for when it opened its stream.
struct Opening {
    encoding: Encoding,
    /// The samples that its batches may refer to.
    samples: Option<Arc<RunSamples>>,
}

impl Session {
    /// Creates both halves of stream `id`.
    pub fn new(
        id: StreamId,
        teacher: LoadedTeacher,
        limits: StreamLimits,
        stopping: Stopping,
    ) -> (Self, Responses) {
        let LoadedTeacher { compute, data } = teacher;
        let (answers, responses) = responses::channel(id, compute.clone());
        let session = Self {
            id,
            compute,
            data,
            answers,
            credit: Arc::new(Semaphore::new(limits.credit as usize)),
            limits,
            stopping,
        };
        (session, responses)
    }

    /// Serves the stream until the trainer ends it, violates the protocol or disconnects, or the service stops.
    pub async fn run(self, inbound: Streaming<StreamSoftTargetsRequest>) {
        let trainer = self.id.0;
        let ended = tokio::select! {
            biased;
            () = self.stopping.cut.cancelled() => Err(StreamError::CutOff),
            () = self.answers.closed() => return info!(trainer, "the trainer disconnected"),
            () = self.answers.until_stuck(self.limits.reader_timeout) => {
                let seconds = self.limits.reader_timeout.as_secs();
                Err(StreamError::SlowReader { seconds })
            }
            ended = self.serve(inbound) => ended,
        };
        match ended {
            Ok(()) => info!(trainer, "stream ended"),
            Err(error) => {
                warn!(trainer, %error, "stream refused");
                match error {
                    StreamError::SlowReader { .. } => self.answers.abandon(error.into_status()),
                    error => self.answers.end(error.into_status()),
                }
            }
        }
    }

    async fn serve(
        &self,
        mut inbound: Streaming<StreamSoftTargetsRequest>,
    ) -> Result<(), StreamError> {
        let first = tokio::select! {
            first = timeout(OPEN_TIMEOUT, next(&mut inbound)) => first,
            // No batch is in flight.
            () = self.stopping.drain.cancelled() => return Err(StreamError::Draining),
        };
        let first = first.map_err(|_| StreamError::OpenTimedOut {
            seconds: OPEN_TIMEOUT.as_secs(),
        })??;
        let mut open = match first {
            Some(Request::Open(open)) => open,
            Some(Request::Batch(_)) | None => return Err(StreamError::NotOpened),
        };
        let data = open.data.take();
        let encoding = self.accept(open)?;
        let credit = self.limits.credit;
        let mut opened = Opened {
            credit,
            ..Opened::default()
        };
        let samples = match data {
            Some(data) => self.samples_of(data).await,
            None => Err(String::new()),
        };
        let samples = match samples {
            Ok(samples) => {
                opened.by_reference = true;
                Some(Arc::new(samples))
            }
            Err(reason) => {
                opened.not_by_reference_because = reason;
                None
            }
        };
        let by_reference = opened.by_reference;
        self.answers.send_message(Response::Opened(opened));
        info!(trainer = self.id.0, credit, %encoding, by_reference, "stream opened");
        let opening = Opening { encoding, samples };

        let drain = &self.stopping.drain;
        loop {
            let request = tokio::select! {
                biased;
                () = drain.cancelled() => break self.drain(&mut inbound, &opening).await?,
                request = next(&mut inbound) => request?,
            };
            match request {
                Some(request) => self.queue_batch(request, &opening).await?,
                None => break,
            }
        }
        // The stream ends when the last sender of answers is dropped, so wait for all answers. No code closes
        // the semaphore.
        let _all = self.credit.acquire_many(credit).await;
        Ok(())
    }

    /// Checks that the trainer expects this teacher; returns the encoding of the answers.
    fn accept(&self, open: Open) -> Result<Encoding, StreamError> {
        let served = &self.compute.description().identity;
        let encoding = Encoding::from_open(&open).ok_or(StreamError::Encoding {
            encoding: open.encoding,
            k: open.k,
            temperature: open.temperature,
        })?;
        if open.model_id != served.model_id {
            return Err(StreamError::OtherModel {
                wanted: open.model_id,
                served: served.model_id.clone(),
            });
        }
        let numerics = open.numerics.unwrap_or_default();
        let wanted = TeacherIdentity {
            model_id: open.model_id,
            numerics: numerics.descriptor,
            probe_sha256: numerics.probe_sha256,
        };
        if wanted == *served {
            Ok(encoding)
        } else {
            Err(StreamError::OtherNumerics {
                wanted: Box::new(wanted),
                served: Box::new(served.clone()),
            })
        }
    }

    /// The samples that `data` names, if this teacher has them.
    ///
    /// # Errors
    /// Why the trainer must send values.
    async fn samples_of(&self, data: wire::DataReference) -> Result<RunSamples, String> {
        let shared = self.data.clone();
        let shared = shared.ok_or_else(|| "this teacher has no data set".to_owned())?;
        let data = DataReference::from_wire(data)?;
        let (compute, most) = (self.compute.clone(), self.limits.max_batch_bytes);
        let finding = tokio::task::spawn_blocking(move || {
            shared.samples_of(&data, compute.description(), most)
        });
        let failed = |_| "the run's samples could not be rendered".to_owned();
        finding.await.map_err(failed)?
    }

    /// Queues one batch for the compute thread. Waits while queued batches fill the memory limit, so that
    /// HTTP/2's flow control slows the trainer down.
    async fn queue_batch(&self, request: Request, opening: &Opening) -> Result<(), StreamError> {
        let wire::Batch {
            id,
            input,
            draw_seeds,
        } = match request {
            Request::Batch(batch) => batch,
            Request::Open(_) => return Err(StreamError::OpenedTwice),
        };
        let permit = Arc::clone(&self.credit).try_acquire_owned().map_err(|_| {
            StreamError::CreditExceeded {
                credit: self.limits.credit,
            }
        })?;
        let arrived = Instant::now();
        let Opening { encoding, samples } = opening;
        let expected = &self.compute.description().input;
        let read = Incoming::read(input, expected, samples.as_ref())?;
        let read = read.and_then(|incoming| {
            let samples = incoming.samples();
            let seeds = DrawSeeds::from_wire(draw_seeds, *encoding, samples)?;
            let bytes = incoming.bytes().saturating_add(seeds.bytes());
            let most = self.limits.max_batch_bytes;
            // A tensor arrived in a message, so only samples that are rendered here can be too many.
            if bytes > most {
                return Err(format!(
                    "{samples} samples take {bytes} bytes, more than grpc.max_message_bytes = {most}"
                ));
            }
            Ok((incoming, seeds, bytes))
        });
        let read = match read {
            Ok((incoming, seeds, bytes)) => {
                let memory = self.compute.reserve(bytes).await;
                let batch = incoming.into_batch().await;
                batch.map(|batch| (batch, seeds, memory))
            }
            Err(reason) => Err(Refusal::from(reason)),
        };
        match read {
            Ok((batch, seeds, memory)) => {
                let job = Job {
                    id,
                    memory,
                    batch,
                    encoding: *encoding,
                    seeds,
                    arrived,
                    answers: Box::new(self.answers.clone()),
                    permit,
                };
                self.compute
                    .submit(self.id, job)
                    .map_err(|_| StreamError::ComputeStopped)
            }
            Err(refusal) => {
                let problem = &refusal.reason;
                warn!(trainer = self.id.0, batch = id, %problem, "batch refused");
                metrics::batch_refused();
                self.answers.refuse(id, refusal, permit);
                Ok(())
            }
        }
    }

    /// Tells the trainer to stop sending; computes the batches that it sent before it received that message.
    async fn drain(
        &self,
        inbound: &mut Streaming<StreamSoftTargetsRequest>,
        opening: &Opening,
    ) -> Result<(), StreamError> {
        self.answers.send_message(Response::Draining(Draining {}));
        let idle = self.limits.credit as usize;
        loop {
            match timeout(QUIET, next(inbound)).await {
                Ok(request) => match request? {
                    Some(request) => self.queue_batch(request, opening).await?,
                    None => return Ok(()),
                },
                Err(_) if self.credit.available_permits() == idle => return Ok(()),
                Err(_) => {}
            }
        }
    }
}

/// The trainer's next message; `None` when it sends no more.
async fn next(
    inbound: &mut Streaming<StreamSoftTargetsRequest>,
) -> Result<Option<Request>, StreamError> {
    match inbound.message().await.map_err(StreamError::Inbound)? {
        Some(request) => request.message.ok_or(StreamError::UnknownMessage).map(Some),
        None => Ok(None),
    }
}
