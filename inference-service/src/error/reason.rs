//! The table of machine-readable reasons and their status codes over gRPC and HTTP. docs/errors.md explains
//! each reason; a test compares the two.

use axum::http::StatusCode;
use tonic::Code;

/// Why a call failed: `ErrorInfo.reason` over gRPC, `reason` in the body over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "docs/errors.md explains each, and a test ensures that"
)]
pub enum Reason {
    BodyTimedOut,
    BodyTooLarge,
    DeadlineExceeded,
    DigestMismatch,
    GoldenBatchDisagrees,
    InferenceFailed,
    Internal,
    InvalidDigest,
    InvalidImage,
    InvalidManifest,
    InvalidModelName,
    InvalidRequest,
    InvalidUpload,
    LoadTimedOut,
    MalformedBody,
    MalformedMessage,
    ManifestMismatch,
    MemoryLimit,
    MessageTooLarge,
    MethodNotAllowed,
    ModelChanged,
    ModelNotFound,
    ModelNotLoaded,
    ModelRefused,
    ModelUnusable,
    NoSuchPath,
    OnnxRuntimeMissing,
    OutputNotFinite,
    QueueFull,
    SignatureMissing,
    SignatureRefused,
    StoreFailed,
    StoreReadOnly,
    StoreUnavailable,
    TeacherUnavailable,
    TooLarge,
    TooManyFields,
    UnknownEncoding,
    UploadTimedOut,
    VersionActive,
    VersionNotFound,
    WorkerStopped,
}

impl Reason {
    /// All reasons, sorted by name.
    pub const ALL: [Self; 42] = [
        Self::BodyTimedOut,
        Self::BodyTooLarge,
        Self::DeadlineExceeded,
        Self::DigestMismatch,
        Self::GoldenBatchDisagrees,
        Self::InferenceFailed,
        Self::Internal,
        Self::InvalidDigest,
        Self::InvalidImage,
        Self::InvalidManifest,
        Self::InvalidModelName,
        Self::InvalidRequest,
        Self::InvalidUpload,
        Self::LoadTimedOut,
        Self::MalformedBody,
        Self::MalformedMessage,
        Self::ManifestMismatch,
        Self::MemoryLimit,
        Self::MessageTooLarge,
        Self::MethodNotAllowed,
        Self::ModelChanged,
        Self::ModelNotFound,
        Self::ModelNotLoaded,
        Self::ModelRefused,
        Self::ModelUnusable,
        Self::NoSuchPath,
        Self::OnnxRuntimeMissing,
        Self::OutputNotFinite,
        Self::QueueFull,
        Self::SignatureMissing,
        Self::SignatureRefused,
        Self::StoreFailed,
        Self::StoreReadOnly,
        Self::StoreUnavailable,
        Self::TeacherUnavailable,
        Self::TooLarge,
        Self::TooManyFields,
        Self::UnknownEncoding,
        Self::UploadTimedOut,
        Self::VersionActive,
        Self::VersionNotFound,
        Self::WorkerStopped,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The code of the gRPC status.
    pub const fn grpc_code(self) -> Code {
        self.row().1
    }

    /// The status of the HTTP response.
    pub const fn http_status(self) -> StatusCode {
        self.row().2
    }

    /// The row of a reason: name, gRPC code, HTTP status.
    const fn row(self) -> (&'static str, Code, StatusCode) {
        use Code as G;
        use StatusCode as H;
        match self {
            Self::BodyTimedOut => ("BODY_TIMED_OUT", G::DeadlineExceeded, H::REQUEST_TIMEOUT),
            Self::BodyTooLarge => ("BODY_TOO_LARGE", G::ResourceExhausted, H::PAYLOAD_TOO_LARGE),
            Self::DeadlineExceeded => {
                ("DEADLINE_EXCEEDED", G::DeadlineExceeded, H::GATEWAY_TIMEOUT)
            }
            Self::DigestMismatch => ("DIGEST_MISMATCH", G::InvalidArgument, H::BAD_REQUEST),
            Self::GoldenBatchDisagrees => {
                ("GOLDEN_BATCH_DISAGREES", G::InvalidArgument, H::BAD_REQUEST)
            }
            Self::InferenceFailed => ("INFERENCE_FAILED", G::Internal, H::INTERNAL_SERVER_ERROR),
            Self::Internal => ("INTERNAL", G::Internal, H::INTERNAL_SERVER_ERROR),
            Self::InvalidDigest => ("INVALID_DIGEST", G::InvalidArgument, H::BAD_REQUEST),
            Self::InvalidImage => ("INVALID_IMAGE", G::InvalidArgument, H::BAD_REQUEST),
            Self::InvalidManifest => ("INVALID_MANIFEST", G::InvalidArgument, H::BAD_REQUEST),
            Self::InvalidModelName => ("INVALID_MODEL_NAME", G::InvalidArgument, H::BAD_REQUEST),
            Self::InvalidRequest => ("INVALID_REQUEST", G::InvalidArgument, H::BAD_REQUEST),
            Self::InvalidUpload => ("INVALID_UPLOAD", G::InvalidArgument, H::BAD_REQUEST),
            Self::LoadTimedOut => ("LOAD_TIMED_OUT", G::DeadlineExceeded, H::GATEWAY_TIMEOUT),
            Self::MalformedBody => ("MALFORMED_BODY", G::InvalidArgument, H::BAD_REQUEST),
            Self::MalformedMessage => ("MALFORMED_MESSAGE", G::InvalidArgument, H::BAD_REQUEST),
            Self::ManifestMismatch => ("MANIFEST_MISMATCH", G::InvalidArgument, H::BAD_REQUEST),
            Self::MemoryLimit => (
                "MEMORY_LIMIT",
                G::ResourceExhausted,
                H::INSUFFICIENT_STORAGE,
            ),
            Self::MessageTooLarge => ("MESSAGE_TOO_LARGE", G::OutOfRange, H::PAYLOAD_TOO_LARGE),
            Self::MethodNotAllowed => (
                "METHOD_NOT_ALLOWED",
                G::Unimplemented,
                H::METHOD_NOT_ALLOWED,
            ),
            Self::ModelChanged => ("MODEL_CHANGED", G::Aborted, H::CONFLICT),
            Self::ModelNotFound => ("MODEL_NOT_FOUND", G::NotFound, H::NOT_FOUND),
            Self::ModelNotLoaded => ("MODEL_NOT_LOADED", G::Unavailable, H::SERVICE_UNAVAILABLE),
            Self::ModelRefused => ("MODEL_REFUSED", G::InvalidArgument, H::BAD_REQUEST),
            Self::ModelUnusable => ("MODEL_UNUSABLE", G::InvalidArgument, H::BAD_REQUEST),
            Self::NoSuchPath => ("NO_SUCH_PATH", G::Unimplemented, H::NOT_FOUND),
            Self::OnnxRuntimeMissing => (
                "ONNX_RUNTIME_MISSING",
                G::Internal,
                H::INTERNAL_SERVER_ERROR,
            ),
            Self::OutputNotFinite => ("OUTPUT_NOT_FINITE", G::InvalidArgument, H::BAD_REQUEST),
            Self::QueueFull => ("QUEUE_FULL", G::ResourceExhausted, H::TOO_MANY_REQUESTS),
            Self::SignatureMissing => ("SIGNATURE_MISSING", G::FailedPrecondition, H::FORBIDDEN),
            Self::SignatureRefused => ("SIGNATURE_REFUSED", G::FailedPrecondition, H::FORBIDDEN),
            Self::StoreFailed => ("STORE_FAILED", G::Internal, H::INTERNAL_SERVER_ERROR),
            Self::StoreReadOnly => ("STORE_READ_ONLY", G::FailedPrecondition, H::CONFLICT),
            Self::StoreUnavailable => ("STORE_UNAVAILABLE", G::Unavailable, H::SERVICE_UNAVAILABLE),
            Self::TeacherUnavailable => (
                "TEACHER_UNAVAILABLE",
                G::Unavailable,
                H::SERVICE_UNAVAILABLE,
            ),
            Self::TooLarge => ("TOO_LARGE", G::InvalidArgument, H::BAD_REQUEST),
            Self::TooManyFields => ("TOO_MANY_FIELDS", G::InvalidArgument, H::BAD_REQUEST),
            Self::UnknownEncoding => (
                "UNKNOWN_ENCODING",
                G::Unimplemented,
                H::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::UploadTimedOut => ("UPLOAD_TIMED_OUT", G::DeadlineExceeded, H::REQUEST_TIMEOUT),
            Self::VersionActive => ("VERSION_ACTIVE", G::FailedPrecondition, H::CONFLICT),
            Self::VersionNotFound => ("VERSION_NOT_FOUND", G::NotFound, H::NOT_FOUND),
            Self::WorkerStopped => ("WORKER_STOPPED", G::Internal, H::INTERNAL_SERVER_ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use server::security::Refusal;

    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        let names = Reason::ALL.map(Reason::name);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    }

    /// In docs/errors.md, the section of this service has exactly one row per reason, with its codes and explanations.
    #[test]
    fn the_document_and_the_table_agree() {
        let document = include_str!("../../../docs/errors.md");
        let section = document
            .lines()
            .skip_while(|line| *line != "## Inference service")
            .skip(1)
            .take_while(|line| !line.starts_with("## "));
        let rows = section.filter(|line| line.starts_with("| `"));
        let rows: Vec<Vec<&str>> = rows
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        let found: Vec<_> = rows.iter().map(|row| (row[0], row[1], row[2])).collect();
        let mut expected = Reason::ALL
            .map(|reason| (reason.name(), reason.grpc_code(), reason.http_status()))
            .to_vec();
        // The reasons that all services share.
        expected.extend(Refusal::ALL.map(|r| (r.reason(), r.code(), r.http_status())));
        expected.sort_by_key(|(name, ..)| *name);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, code, status)| (format!("`{name}`"), upper_snake(code), status))
            .collect();
        let shown: Vec<_> = expected
            .iter()
            .map(|(name, code, status)| (name.as_str(), code.as_str(), status.as_str()))
            .collect();
        assert_eq!(found, shown);
        for row in rows {
            assert!(
                row.len() == 5 && row[3].len() > 10 && row[4].len() > 10,
                "{row:?}"
            );
        }
    }

    /// Converts `InvalidArgument` to `INVALID_ARGUMENT`.
    fn upper_snake(code: Code) -> String {
        let mut snake = String::new();
        for letter in format!("{code:?}").chars() {
            if letter.is_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_uppercase());
        }
        snake
    }
}
