//! Errors over HTTP: `{"error": "...", "reason": "QUEUE_FULL"}`. The Open Inference Protocol defines `error`;
//! `reason` is for programs.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    error::{InferenceError, Reason},
    teacher::TeacherError,
};

/// Why a request fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HttpError {
    /// An error of the inference protocol, which does not depend on HTTP.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// The teacher of the web page did not classify a picture.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// No such path.
    #[error("there is nothing at this path; see docs/openapi.yaml")]
    NoSuchPath,
    /// The path exists, but not with this method.
    #[error("this path does not support this method")]
    MethodNotAllowed,
    /// The body is too large, before or after decompression.
    #[error("the body is too large; at most {allowed} bytes are allowed, also after decompression")]
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
    /// The content coding is not supported.
    #[error("content-encoding: must be gzip, deflate or identity, and only one")]
    UnknownEncoding,
    /// The body cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// JSON cannot represent the logits.
    #[error(
        "outputs[0]: the logits are not finite, so JSON cannot represent them; request binary data"
    )]
    NotFinite,
    /// An internal error; the log has the reason.
    #[error("internal error; see the service's log")]
    Internal,
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
    /// The same as `ErrorInfo.reason` over gRPC; see docs/errors.md.
    reason: &'static str,
}

impl HttpError {
    fn reason(&self) -> Reason {
        match self {
            Self::Inference(error) | Self::Teacher(TeacherError::Picture(error)) => error.reason(),
            Self::Teacher(TeacherError::Unavailable { .. }) => Reason::TeacherUnavailable,
            Self::NoSuchPath => Reason::NoSuchPath,
            Self::MethodNotAllowed => Reason::MethodNotAllowed,
            Self::BodyTooLarge { .. } => Reason::BodyTooLarge,
            Self::BodyTimedOut { .. } => Reason::BodyTimedOut,
            Self::UnknownEncoding => Reason::UnknownEncoding,
            Self::Malformed(_) => Reason::MalformedBody,
            Self::NotFinite => Reason::OutputNotFinite,
            Self::Internal => Reason::Internal,
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let reason = self.reason();
        let body = ErrorBody {
            error: self.to_string(),
            reason: reason.name(),
        };
        (reason.http_status(), Json(body)).into_response()
    }
}
