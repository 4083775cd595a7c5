//! One log line a request, where the configuration asks for it. It never holds what was sent.

use std::{fmt, time::Instant};

use tracing::info;

use super::{InferenceResponse, request_id::RequestName};
use crate::error::InferenceError;

/// A request under way. Dropped before its end, it was cancelled.
pub(crate) struct Access(Option<Line>);

struct Line {
    request: String,
    model: String,
    /// 0 where there is no such model or version.
    version: u64,
    began: Instant,
}

impl Access {
    /// Logs nothing where `wanted` is false.
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

    /// The request has been answered.
    pub(crate) fn end(mut self, outcome: &Result<InferenceResponse, InferenceError>) {
        if let Some(line) = self.0.take() {
            match outcome {
                Ok(response) => line.log("OK", response.samples),
                Err(error) => line.log(error.reason(), 0),
            }
        }
    }

    /// Another line tells of the request.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Access {
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
