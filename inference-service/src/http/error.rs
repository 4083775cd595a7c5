//! How refusals look over HTTP: `{"error": "...", "reason": "QUEUE_FULL"}`, the first as the Open
//! Inference Protocol has it, the second for programs.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::error::{InferenceError, Reason, ServiceError};

/// Why a request is refused before its content is looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Nothing is at this path.
    #[error("there is nothing at this path; see docs/openapi.yaml")]
    NoSuchPath,
    /// The path is there, for other methods.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// Too many bytes, sent or inflated.
    #[error("the body is too large; at most {allowed} bytes are allowed, also after inflating")]
    BodyTooLarge {
        /// See `http.max_body_bytes`.
        allowed: usize,
    },
    /// The body took too long to arrive.
    #[error("the body did not arrive within {seconds} s")]
    BodyTimedOut {
        /// See `http.read_timeout_seconds`.
        seconds: u64,
    },
    /// Compressed in an unknown way.
    #[error("content-encoding: must be gzip, deflate or identity, and only one")]
    UnknownEncoding,
    /// The body is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// The logits cannot be told in JSON.
    #[error("outputs[0]: the logits are not finite, which JSON cannot say; ask for binary data")]
    NotFinite,
    /// A fault; the log says more.
    #[error("the service failed while it handled the request; its log says why")]
    Internal,
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
    /// As `ErrorInfo.reason` over gRPC; see docs/errors.md.
    reason: &'static str,
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let reason = Reason::of(&self);
        let body = ErrorBody {
            error: self.to_string(),
            reason: reason.name(),
        };
        (reason.http_status(), Json(body)).into_response()
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        ServiceError::from(self).into_response()
    }
}

impl IntoResponse for InferenceError {
    fn into_response(self) -> Response {
        ServiceError::from(self).into_response()
    }
}
