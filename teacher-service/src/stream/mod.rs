//! One trainer's stream: batches come in, answers go out, never more in flight than the credit.

mod responses;

use std::{sync::Arc, time::Duration, time::Instant};

use artifacts::manifest::TeacherIdentity;
use proto::teacher::v1::{
    self as wire, Draining, Open, Opened, StreamSoftTargetsRequest,
    stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
};
use soft_targets::Encoding;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{info, warn};

use crate::{
    batch::Batch,
    compute::{Compute, Job},
    error::StreamError,
    metrics,
    queue::StreamId,
};

pub use responses::{Answers, Responses};

/// A stream that is not opened by then is given up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// While draining: a trainer that sent nothing for so long, and has all its answers, is done.
const QUIET: Duration = Duration::from_millis(500);

/// How the service tells its streams to stop.
#[derive(Debug, Clone, Default)]
pub struct Stopping {
    /// Finish what is in flight, then end.
    pub drain: CancellationToken,
    /// End now.
    pub cut: CancellationToken,
}

/// The reading half of a stream; [`Responses`] is the writing half.
pub struct Session {
    id: StreamId,
    compute: Compute,
    answers: Answers,
    /// Permits left = batches that the trainer may still send. A batch's permit travels with it and
    /// comes back when the transport takes the answer, so a trainer that does not read its answers
    /// cannot fill the memory.
    credit: Arc<Semaphore>,
    limits: StreamLimits,
    stopping: Stopping,
}

/// What one stream may have.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Batches in flight.
    pub credit: u32,
    /// Time without reading any of the answers that wait.
    pub reader_timeout: Duration,
}

impl Session {
    /// Both halves of stream `id`.
    pub fn new(
        id: StreamId,
        compute: Compute,
        limits: StreamLimits,
        stopping: Stopping,
    ) -> (Self, Responses) {
        let (answers, responses) = responses::channel(id, compute.clone());
        let session = Self {
            id,
            compute,
            answers,
            credit: Arc::new(Semaphore::new(limits.credit as usize)),
            limits,
            stopping,
        };
        (session, responses)
    }

    /// Reads until the trainer is done, breaks the contract or is gone, or until the service stops.
    pub async fn run(self, inbound: Streaming<StreamSoftTargetsRequest>) {
        let trainer = self.id.0;
        let ended = tokio::select! {
            biased;
            () = self.stopping.cut.cancelled() => Err(StreamError::CutOff),
            () = self.answers.closed() => return info!(trainer, "the trainer is gone"),
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
            // Nothing is in flight.
            () = self.stopping.drain.cancelled() => return Err(StreamError::Draining),
        };
        let first = first.map_err(|_| StreamError::OpenTimedOut {
            seconds: OPEN_TIMEOUT.as_secs(),
        })??;
        let encoding = match first {
            Some(Request::Open(open)) => self.accept(open)?,
            Some(Request::Batch(_)) | None => return Err(StreamError::NotOpened),
        };
        let credit = self.limits.credit;
        self.answers.tell(Response::Opened(Opened { credit }));
        info!(trainer = self.id.0, credit, %encoding, "stream opened");

        let drain = &self.stopping.drain;
        loop {
            let request = tokio::select! {
                biased;
                () = drain.cancelled() => break self.drain(&mut inbound, encoding).await?,
                request = next(&mut inbound) => request?,
            };
            match request {
                Some(request) => self.take(request, encoding).await?,
                None => break,
            }
        }
        // The answers still go out: the stream ends when the last sender of them is dropped.
        // Closed: never, so this only waits.
        let _all = self.credit.acquire_many(credit).await;
        Ok(())
    }

    /// Checks what the stream was opened for; gives the encoding of its answers.
    fn accept(&self, open: Open) -> Result<Encoding, StreamError> {
        let served = &self.compute.description().identity;
        let encoding =
            Encoding::from_wire(open.encoding(), open.k).ok_or(StreamError::Encoding {
                encoding: open.encoding,
                k: open.k,
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
        match wanted == *served {
            true => Ok(encoding),
            false => Err(StreamError::OtherNumerics {
                wanted: Box::new(wanted),
                served: Box::new(served.clone()),
            }),
        }
    }

    /// Takes one batch; waits while the batches that wait for the compute thread fill the memory,
    /// so that the trainer is held up by HTTP/2's flow control.
    async fn take(&self, request: Request, encoding: Encoding) -> Result<(), StreamError> {
        let wire::Batch { id, input } = match request {
            Request::Batch(batch) => batch,
            Request::Open(_) => return Err(StreamError::OpenedTwice),
        };
        let permit = Arc::clone(&self.credit).try_acquire_owned().map_err(|_| {
            StreamError::CreditExceeded {
                credit: self.limits.credit,
            }
        })?;
        let tensor = input.map(|wire::batch::Input::Tensor(tensor)| tensor);
        match Batch::from_tensor(tensor, self.compute.description().input_shape) {
            Ok(batch) => {
                let job = Job {
                    id,
                    memory: self.compute.reserve(batch.bytes()).await,
                    batch,
                    encoding,
                    arrived: Instant::now(),
                    answers: self.answers.clone(),
                    permit,
                };
                self.compute
                    .submit(self.id, job)
                    .map_err(|_| StreamError::ComputeStopped)
            }
            Err(problem) => {
                warn!(trainer = self.id.0, batch = id, %problem, "batch refused");
                metrics::batch_refused();
                self.answers.refuse(id, problem.to_string(), permit);
                Ok(())
            }
        }
    }

    /// Tells the trainer to stop sending; what it sent before it heard of that is still computed.
    async fn drain(
        &self,
        inbound: &mut Streaming<StreamSoftTargetsRequest>,
        encoding: Encoding,
    ) -> Result<(), StreamError> {
        self.answers.tell(Response::Draining(Draining {}));
        let idle = self.limits.credit as usize;
        loop {
            match timeout(QUIET, next(inbound)).await {
                Ok(request) => match request? {
                    Some(request) => self.take(request, encoding).await?,
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
