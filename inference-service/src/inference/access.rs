//! One log line a request, where the configuration asks for it. It never holds what was sent.

use std::time::Instant;

use tracing::info;

use super::{InferenceRequest, InferenceResponse};
use crate::{catalog::LoadedVersion, error::InferenceError};

/// A request under way.
pub(super) struct Access {
    request: String,
    began: Instant,
}

impl Access {
    pub(super) fn of(request: &InferenceRequest) -> Self {
        Self {
            request: request.name().to_owned(),
            began: Instant::now(),
        }
    }

    pub(super) fn log(
        self,
        version: &LoadedVersion,
        outcome: &Result<InferenceResponse, InferenceError>,
    ) {
        let (outcome, samples) = match outcome {
            Ok(response) => ("OK", response.samples),
            Err(error) => (error.reason(), 0),
        };
        info!(
            target: "access",
            request = self.request,
            model = %version.model,
            version = version.version,
            outcome,
            samples,
            microseconds = self.began.elapsed().as_micros() as u64,
            "request"
        );
    }
}
