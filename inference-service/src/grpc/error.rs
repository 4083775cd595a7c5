//! gRPC statuses of errors: the code, the message, and the machine-readable reason, which tonic's own errors
//! lack.

use std::{
    fmt::Display,
    task::{Context, Poll},
};

use futures::{TryFutureExt, future::MapOk};
use proto::bounded::DecodeError;
use server::grpc::status;
use tonic::{
    Code, Status,
    codegen::{Service, http},
};
use tower_layer::Layer;

use crate::error::{InferenceError, PublishError, Reason};

/// Why a call is rejected before its content is checked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum GrpcError {
    /// No such method.
    #[error("this port has no such method; reflection lists its methods")]
    NoSuchCall,
    /// The caller may not load and unload models at this port.
    #[error(
        "load and unload models on the admin port; this port requires a token with the scope `admin`, \
         or grpc.model_control = \"every_caller\""
    )]
    ModelControl,
    /// The message is too large, compressed or decompressed.
    #[error("{0}; see grpc.max_message_bytes")]
    MessageTooLarge(String),
    /// The compression is not supported.
    #[error("{0}")]
    UnknownEncoding(String),
    /// The bytes are not a message.
    #[error("{0}")]
    Malformed(String),
    /// The message cannot be decoded.
    #[error("{message}: {error}")]
    Undecodable {
        /// Name of the message type.
        message: &'static str,
        /// The error of the decoder.
        error: DecodeError,
    },
}

impl GrpcError {
    fn reason(&self) -> Reason {
        match self {
            Self::NoSuchCall | Self::ModelControl => Reason::NoSuchPath,
            Self::MessageTooLarge(_) => Reason::MessageTooLarge,
            Self::UnknownEncoding(_) => Reason::UnknownEncoding,
            Self::Malformed(_) => Reason::MalformedMessage,
            Self::Undecodable { error, .. } => match error {
                DecodeError::TooManyFields => Reason::TooManyFields,
                DecodeError::Malformed(_) => Reason::MalformedMessage,
            },
        }
    }
}

impl From<GrpcError> for Status {
    fn from(error: GrpcError) -> Self {
        status_of(error.reason(), &error)
    }
}

impl From<InferenceError> for Status {
    fn from(error: InferenceError) -> Self {
        status_of(error.reason(), &error)
    }
}

impl From<PublishError> for Status {
    fn from(error: PublishError) -> Self {
        status_of(error.reason(), &error)
    }
}

fn status_of(reason: Reason, error: &impl Display) -> Status {
    status(reason.grpc_code(), reason.name(), error.to_string())
}

/// Adds the reason to a status of tonic's own, which has no details. tonic uses each of these codes for one
/// error only.
pub(super) fn with_reason(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let message = status.message().to_owned();
    let error = match status.code() {
        // The first for the compressed size, the second for the decompressed size.
        Code::OutOfRange | Code::ResourceExhausted => GrpcError::MessageTooLarge(message),
        Code::Unimplemented if status.metadata().contains_key(ACCEPTED) => {
            GrpcError::UnknownEncoding(message)
        }
        Code::Unimplemented => GrpcError::NoSuchCall,
        Code::Internal => GrpcError::Malformed(message),
        _ => return status,
    };
    error.into()
}

/// Header with the accepted encodings, in the response to an unsupported one.
const ACCEPTED: &str = "grpc-accept-encoding";

/// Layer that adds reasons to the errors of a port's services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reasons;

/// See [`Reasons`].
#[derive(Debug, Clone)]
pub(crate) struct WithReasons<S>(S);

impl<S> Layer<S> for Reasons {
    type Service = WithReasons<S>;

    fn layer(&self, inner: S) -> WithReasons<S> {
        WithReasons(inner)
    }
}

impl<S, A, B> Service<http::Request<A>> for WithReasons<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(S::Response) -> S::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        self.0.call(request).map_ok(complete)
    }
}

/// Errors are responses that consist of headers only, with the status among them.
fn complete<B>(mut response: http::Response<B>) -> http::Response<B> {
    let headers = response.headers_mut();
    let has_details = headers.contains_key(Status::GRPC_STATUS_DETAILS);
    if has_details || !headers.contains_key(Status::GRPC_STATUS) {
        return response;
    }
    if let Some(status) = Status::from_header_map(headers) {
        // Cannot fail: tonic escapes the message.
        let _ = with_reason(status).add_header(headers);
    }
    response
}

#[cfg(test)]
mod tests {
    use proto::inference::ModelReadyRequest;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn a_status_has_the_code_the_text_and_the_reason() {
        let status = Status::from(InferenceError::QueueFull { capacity: 7 });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(
            status.message().contains("7 requests"),
            "{}",
            status.message()
        );
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("QUEUE_FULL", "retort")
        );
    }

    #[test]
    fn the_codec_uses_the_same_reasons() {
        let malformed = proto::bounded::decode::<ModelReadyRequest>(vec![0xff].into()).unwrap_err();
        for error in [DecodeError::TooManyFields, malformed] {
            let reason = error.reason();
            let message = "ModelReadyRequest";
            let error = GrpcError::Undecodable { message, error };
            assert_eq!(error.reason().name(), reason);
        }
    }

    #[test]
    fn tonics_errors_get_a_reason_and_other_errors_keep_theirs() {
        let mut encoding = Status::unimplemented("compressed");
        let accepted = "gzip,identity".parse().unwrap();
        encoding.metadata_mut().insert(ACCEPTED, accepted);
        let invalid = Code::InvalidArgument;
        for (status, code, reason) in [
            (
                Status::out_of_range("long"),
                Code::OutOfRange,
                Some("MESSAGE_TOO_LARGE"),
            ),
            (
                Status::resource_exhausted("long"),
                Code::OutOfRange,
                Some("MESSAGE_TOO_LARGE"),
            ),
            (encoding, Code::Unimplemented, Some("UNKNOWN_ENCODING")),
            (
                Status::unimplemented(""),
                Code::Unimplemented,
                Some("NO_SUCH_PATH"),
            ),
            (Status::internal("cut"), invalid, Some("MALFORMED_MESSAGE")),
            // An error of grpc.health.v1 about an unknown service.
            (Status::not_found("service"), Code::NotFound, None),
            (
                server::grpc::status(Code::Internal, "STORE_FAILED", "disk"),
                Code::Internal,
                Some("STORE_FAILED"),
            ),
        ] {
            let response = complete(status.clone().into_http::<()>());
            let sent = Status::from_header_map(response.headers()).unwrap();
            for found in [with_reason(status), sent] {
                assert_eq!(found.code(), code, "{found}");
                let info = found.get_details_error_info();
                let info = info.as_ref().map(|info| info.reason.as_str());
                assert_eq!(info, reason, "{found}");
            }
        }
    }

    #[test]
    fn successful_responses_are_not_changed() {
        for status in [None, Some("0")] {
            let mut response = http::Response::builder();
            if let Some(status) = status {
                response = response.header("grpc-status", status);
            }
            let answer = response.body(()).unwrap();
            let headers = answer.headers().clone();
            assert_eq!(complete(answer).headers(), &headers);
        }
    }
}
