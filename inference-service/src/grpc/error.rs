//! Why a call is refused before it is one of the service's own: what tonic refuses, with the reasons
//! that tonic does not give.

use std::task::{Context, Poll};

use futures::{TryFutureExt, future::MapOk};
use proto::bounded::DecodeError;
use tonic::{
    Code, Status,
    codegen::{Service, http},
};
use tower_layer::Layer;

use crate::error::ServiceError;

/// Why a call is refused before its content is looked at.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GrpcError {
    /// Nothing is at this path.
    #[error("there is no such call at this port; its reflection lists those there are")]
    NoSuchCall,
    /// The caller may not load and unload models at this port.
    #[error(
        "models are loaded and unloaded on the admin port; at this port by callers whose token has the \
         scope `admin`, or by every caller with grpc.model_control = \"every_caller\""
    )]
    ModelControl,
    /// The message has too many bytes, sent or inflated.
    #[error("{0}; see grpc.max_message_bytes")]
    MessageTooLarge(String),
    /// Compressed in an unknown way.
    #[error("{0}")]
    UnknownEncoding(String),
    /// The bytes are no message.
    #[error("{0}")]
    Malformed(String),
    /// The message cannot be decoded.
    #[error("{message}: {error}")]
    Undecodable {
        /// What it should be.
        message: &'static str,
        /// Why it is not.
        error: DecodeError,
    },
}

impl From<GrpcError> for Status {
    fn from(error: GrpcError) -> Self {
        ServiceError::from(error).into()
    }
}

/// A status with its reason. One that has no details is tonic's own, about a request that tonic could not
/// take; codes of which it makes no other use tell which.
pub(super) fn with_reason(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let words = status.message().to_owned();
    let error = match status.code() {
        // The first as sent, the second while it is inflated.
        Code::OutOfRange | Code::ResourceExhausted => GrpcError::MessageTooLarge(words),
        Code::Unimplemented if status.metadata().contains_key(ACCEPTED) => {
            GrpcError::UnknownEncoding(words)
        }
        Code::Unimplemented => GrpcError::NoSuchCall,
        Code::Internal => GrpcError::Malformed(words),
        _ => return status,
    };
    error.into()
}

/// Beside a refused encoding: those that are accepted.
const ACCEPTED: &str = "grpc-accept-encoding";

/// Puts reasons into the refusals of a port's services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reasons;

/// A service whose refusals have reasons.
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

/// A refusal has its status among the headers: nothing else is sent.
fn complete<B>(mut response: http::Response<B>) -> http::Response<B> {
    let headers = response.headers_mut();
    let told = headers.contains_key(Status::GRPC_STATUS_DETAILS);
    if told || !headers.contains_key(Status::GRPC_STATUS) {
        return response;
    }
    if let Some(status) = Status::from_header_map(headers) {
        // Holds: what cannot stand in a header is escaped.
        let _ = with_reason(status).add_header(headers);
    }
    response
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn what_tonic_refuses_gets_its_reason_and_what_has_one_keeps_it() {
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
            // Of grpc.health.v1, about a service that it does not know.
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
    fn answers_are_let_alone() {
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
