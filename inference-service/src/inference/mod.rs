//! The one request path: whatever protocol a request came by, it goes through here.

mod access_log;
pub(crate) mod behaviour;
mod request;
mod request_id;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout_at};
use tracing::{Instrument, debug_span};

use crate::{
    batcher::{Job, Refused},
    catalog::{Catalog, LoadedVersion, shorten},
    error::InferenceError,
    readiness::Readiness,
};

use access_log::AccessLine;
#[cfg(test)]
pub(crate) use request::Input;
use request_id::RequestName;

pub(crate) use request::{F32, InferenceRequest, InputTensor, invalid};
pub(crate) use request_id::RequestId;

/// Answers requests; what the protocols' edges share.
#[derive(Debug)]
pub(crate) struct Inference {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) readiness: Readiness,
    /// Whether every request has a line in the log.
    log_access: bool,
}

/// The answer to an [`InferenceRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InferenceResponse {
    /// As in the request.
    pub(crate) model: String,
    /// The version that answered.
    pub(crate) version: u64,
    /// As in the request.
    pub(crate) id: String,
    pub(crate) samples: usize,
    pub(crate) classes: usize,
    /// Little-endian f32 [samples, classes].
    pub(crate) logits: Bytes,
}

impl Inference {
    pub(crate) fn new(catalog: Arc<Catalog>, readiness: Readiness, log_access: bool) -> Self {
        Self {
            catalog,
            readiness,
            log_access,
        }
    }

    /// Answers `request` by the version that it names. Dropping the future withdraws the request:
    /// unless it is being computed already, it never is.
    ///
    /// # Errors
    /// See [`InferenceError`].
    pub(crate) async fn infer(
        &self,
        request: InferenceRequest,
    ) -> Result<InferenceResponse, InferenceError> {
        let version = self.find(&request.model, &request.version, request.name())?;
        version.infer(request).await
    }

    /// The version that is to answer the request of this name.
    ///
    /// # Errors
    /// [`InferenceError`] where there is none; it is in the access log then.
    pub(crate) fn find(
        &self,
        model: &str,
        version: &str,
        request: RequestName<'_>,
    ) -> Result<Arc<LoadedVersion>, InferenceError> {
        self.catalog.find(model, version).inspect_err(|error| {
            AccessLine::new(self.log_access, request, shorten(model), 0).end(&Err(error.clone()));
        })
    }
}

impl LoadedVersion {
    /// Answers `request`, for this version and counted with it, whatever version it names: for a
    /// caller that has looked at the version before, to make the input from something else.
    ///
    /// # Errors
    /// See [`InferenceError`].
    pub(crate) async fn infer(
        &self,
        request: InferenceRequest,
    ) -> Result<InferenceResponse, InferenceError> {
        let record = self.statistics.begin();
        let access_line = self.access_line(request.name());
        let span = debug_span!(
            "infer",
            model = %self.model,
            version = self.version,
            request = request.name().to_string(),
        );
        let outcome = self.compute(request).instrument(span).await;
        record.end(&outcome);
        access_line.end(&outcome);
        outcome
    }

    /// Begins the access-log line of a request to this version.
    pub(crate) fn access_line(&self, request: RequestName<'_>) -> AccessLine {
        let wanted = self.config.log_access;
        AccessLine::new(wanted, request, &self.model, self.version)
    }

    async fn compute(
        &self,
        request: InferenceRequest,
    ) -> Result<InferenceResponse, InferenceError> {
        let batching = &self.config.batching;
        let arrived = Instant::now();
        let deadline = request.deadline.or_else(|| {
            let timeout = batching.default_timeout()?;
            arrived.checked_add(timeout)
        });
        let (input, named) = request.check(&self.interface, batching.max_batch_size)?;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            input: input.values,
            samples: input.samples,
            enqueued: arrived,
            deadline,
            reply,
        };
        let stopped = || InferenceError::WorkerStopped {
            model: self.model.clone(),
        };
        self.batcher.push(job).map_err(|refused| match refused {
            Refused::Full => InferenceError::QueueFull {
                capacity: batching.max_queue_size,
            },
            Refused::Closed => stopped(),
        })?;
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => timeout_at(deadline.into(), answer)
                .await
                .map_err(|_| InferenceError::DeadlineExceeded)?,
        };
        let logits = answer.map_err(|_| stopped())??;
        Ok(InferenceResponse {
            model: named.model,
            version: self.version,
            id: named.id,
            samples: input.samples,
            classes: self.interface.classes,
            logits,
        })
    }
}
