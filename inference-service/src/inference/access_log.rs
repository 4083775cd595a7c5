//! The access log: one entry per request, if `log.access` is set. Entries never contain payloads.

use std::{fmt, time::Instant};

use tracing::info;

use super::{InferenceResponse, request_id::RequestName};
use crate::error::InferenceError;

/// The entry of a request in progress. If it is dropped before [`end`](Self::end), the request was
/// cancelled.
pub(crate) struct LogEntry(Option<Fields>);

struct Fields {
    request: String,
    model: String,
    /// 0 if there is no such model or version.
    version: u64,
    began: Instant,
}

impl LogEntry {
    /// Begins an entry. If `enabled` is false, nothing is logged.
    pub(crate) fn new(
        enabled: bool,
        request: RequestName<'_>,
        model: impl fmt::Display,
        version: u64,
    ) -> Self {
        Self(enabled.then(|| Fields {
            request: request.to_string(),
            model: model.to_string(),
            version,
            began: Instant::now(),
        }))
    }

    /// Logs the outcome of the request.
    pub(crate) fn end(mut self, outcome: &Result<InferenceResponse, InferenceError>) {
        if let Some(fields) = self.0.take() {
            match outcome {
                Ok(response) => fields.log("OK", response.samples),
                Err(error) => fields.log(error.reason().name(), 0),
            }
        }
    }

    /// Discards the entry, because a later entry covers the request.
    pub(crate) fn discard(mut self) {
        self.0 = None;
    }
}

impl Drop for LogEntry {
    fn drop(&mut self) {
        if let Some(fields) = self.0.take() {
            fields.log("CANCELED", 0);
        }
    }
}

impl Fields {
    fn log(self, outcome: &str, samples: usize) {
        info!(
            target: "access",
            request = self.request,
            model = self.model,
            version = self.version,
            outcome,
            samples,
            microseconds = self.began.elapsed().as_micros() as u64,
            "request"
        );
    }
}
