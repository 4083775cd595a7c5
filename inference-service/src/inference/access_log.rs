//! The access log: one line per request, without its content, if the configuration enables it.

use std::{fmt, time::Instant};

use tracing::info;

use super::{InferenceResponse, request_id::RequestName};
use crate::error::InferenceError;

/// The access-log line of a request in progress. Dropping it before its end logs the request as cancelled.
pub(crate) struct AccessLine(Option<Line>);

struct Line {
    request: String,
    model: String,
    /// 0 if there is no such model or version.
    version: u64,
    began: Instant,
}

impl AccessLine {
    /// Logs nothing if `wanted` is false.
    pub(crate) fn new(
        wanted: bool,
        request: RequestName<'_>,
        model: impl fmt::Display,
        version: u64,
    ) -> Self {
        Self(wanted.then(|| Line {
            request: request.to_string(),
            model: model.to_string(),
            version,
            began: Instant::now(),
        }))
    }

    /// Logs the outcome of the request.
    pub(crate) fn end(mut self, outcome: &Result<InferenceResponse, InferenceError>) {
        if let Some(line) = self.0.take() {
            match outcome {
                Ok(response) => line.log("OK", response.samples),
                Err(error) => line.log(error.reason(), 0),
            }
        }
    }

    /// Logs nothing, because another line covers the request.
    pub(crate) fn discard(mut self) {
        self.0 = None;
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.log("CANCELED", 0);
        }
    }
}

impl Line {
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
