//! The request path that all protocols share.

mod access_log;
mod request;
mod request_id;
pub(crate) mod server_times;
pub(crate) mod unsupported;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout_at};
use traces::Scope;
use tracing::{Instrument, debug_span};

use crate::{
    batcher::{Computed, Job, PushError},
    capture::Capture,
    catalog::Catalog,
    error::InferenceError,
    loaded_version::LoadedVersion,
    names::shorten,
    readiness::Readiness,
    route::Route,
};

use access_log::LogEntry;
#[cfg(test)]
pub(crate) use request::Input;
use request_id::RequestName;
use server_times::ServerTimes;

pub(crate) use request::{F32, InferenceRequest, InputTensor, invalid};
pub(crate) use request_id::RequestId;

/// Answers requests for inference.
#[derive(Debug)]
pub(crate) struct Inference {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) readiness: Readiness,
    /// Whether the log has one entry per request.
    access_log: bool,
    /// Keeps samples of requests, if it is configured.
    pub(crate) capture: Option<Capture>,
}

/// The answer to an [`InferenceRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InferenceResponse {
    /// The model's name in the request.
    pub(crate) model: String,
    /// The version that answered.
    pub(crate) version: u64,
    /// The id in the request.
    pub(crate) id: String,
    pub(crate) samples: usize,
    pub(crate) classes: usize,
    /// Little-endian f32 [samples, classes].
    pub(crate) logits: Bytes,
    /// If the request asks for them.
    pub(crate) times: Option<ServerTimes>,
}

impl Inference {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        readiness: Readiness,
        access_log: bool,
        capture: Option<Capture>,
    ) -> Self {
        Self {
            catalog,
            readiness,
            access_log,
            capture,
        }
    }

    /// Answers `request` with the version that it names. Dropping the future cancels the request unless
    /// it is already in a batch.
    ///
    /// # Errors
    /// See [`InferenceError`].
    pub(crate) async fn infer(
        &self,
        request: InferenceRequest,
    ) -> Result<InferenceResponse, InferenceError> {
        let route = self.route(&request.model, &request.version, request.name())?;
        self.infer_with(&route, request).await
    }

    /// Selects the version that answers a request: the active one or its canary, if the request names none. A failure
    /// is written to the access log.
    ///
    /// # Errors
    /// [`InferenceError`] if there is no such version.
    pub(crate) fn route(
        &self,
        model: &str,
        version: &str,
        request: RequestName<'_>,
    ) -> Result<Route, InferenceError> {
        self.catalog.route(model, version).inspect_err(|error| {
            let entry = LogEntry::new(self.access_log, request, shorten(model), 0);
            entry.end(&Err(error.clone()));
        })
    }

    /// Answers `request` with the version of `route`, whatever version the request names. Callers that need the version
    /// to prepare the input select it first.
    ///
    /// # Errors
    /// See [`InferenceError`].
    pub(crate) async fn infer_with(
        &self,
        route: &Route,
        request: InferenceRequest,
    ) -> Result<InferenceResponse, InferenceError> {
        let version = &*route.version;
        let record = version.statistics.begin();
        let entry = self.log_entry(version, request.name());
        let span = debug_span!(
            "infer",
            model = %version.model,
            version = version.version,
            request = request.name().to_string(),
        );
        let outcome = compute(self.capture.as_ref(), route, request)
            .instrument(span)
            .await;
        if let (Some(observer), Err(error)) = (&route.observer, &outcome) {
            observer.failed(error);
        }
        record.end(&outcome);
        entry.end(&outcome);
        outcome
    }

    /// Begins the entry of a request in the access log.
    pub(crate) fn log_entry(&self, version: &LoadedVersion, request: RequestName<'_>) -> LogEntry {
        LogEntry::new(self.access_log, request, &version.model, version.version)
    }
}

/// Checks `request`, queues it, and waits for the logits.
async fn compute(
    capture: Option<&Capture>,
    route: &Route,
    request: InferenceRequest,
) -> Result<InferenceResponse, InferenceError> {
    let Route { version, observer } = route;
    let batching = &version.config.batching;
    let arrived = Instant::now();
    let deadline = request.deadline.or_else(|| {
        let timeout = batching.default_timeout()?;
        arrived.checked_add(timeout)
    });
    let timing = request.timing;
    let (input, echo) = request.check(&version.interface, batching.max_batch_size)?;
    if let Some(capture) = capture {
        capture.take(version, &input.values, input.samples);
    }
    let compared = observer.as_ref().and_then(|observer| {
        let sample_values = version.interface.sample_values();
        observer.select(&input.values, input.samples, sample_values)
    });
    let (reply, answer) = oneshot::channel();
    let job = Job {
        input: input.values,
        samples: input.samples,
        enqueued: arrived,
        deadline,
        scope: Scope::current(),
        reply,
    };
    let stopped = || InferenceError::WorkerStopped {
        model: version.model.clone(),
    };
    version.batcher.push(job).map_err(|error| match error {
        PushError::Full => InferenceError::QueueFull {
            capacity: batching.max_queue_size,
        },
        PushError::Closed => stopped(),
    })?;
    let answer = match deadline {
        None => answer.await,
        Some(deadline) => timeout_at(deadline.into(), answer)
            .await
            .map_err(|_| InferenceError::DeadlineExceeded)?,
    };
    let Computed { logits, times } = answer.map_err(|_| stopped())??;
    if let Some(observer) = observer {
        observer.answered(&times, &logits, compared);
    }
    Ok(InferenceResponse {
        model: echo.model,
        version: version.version,
        id: echo.id,
        samples: input.samples,
        classes: version.interface.classes,
        logits,
        times: timing.then(|| ServerTimes {
            request: arrived.elapsed(),
            compute: times,
        }),
    })
}
