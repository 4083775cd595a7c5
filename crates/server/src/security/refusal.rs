//! Reasons to refuse a call, with their answers over gRPC and HTTP.

use http::{HeaderValue, Response, StatusCode, header};
use tonic::{Code, Status};

use crate::grpc;

/// A reason to refuse a call before it reaches the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call has no token, or the header is malformed.
    #[error("a token is required: send it as `authorization: Bearer TOKEN`")]
    TokenMissing,
    /// The service does not know the token.
    #[error("this service does not accept the token")]
    TokenUnknown,
    /// The token lacks the scope of this call.
    #[error("the token does not allow this call")]
    ScopeMissing,
    /// The service is still loading.
    #[error("the service is still loading; try again later")]
    Starting,
    /// The port has reached its limit of connections.
    #[error("the port has reached its limit of connections; try again later")]
    PortFull,
    /// The service stops, and the remainder of the request did not arrive.
    #[error("the service is shutting down; try again later, or use another server")]
    ShuttingDown,
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Self; 6] = [
        Self::TokenMissing,
        Self::TokenUnknown,
        Self::ScopeMissing,
        Self::Starting,
        Self::PortFull,
        Self::ShuttingDown,
    ];

    /// The machine-readable reason, as in gRPC's `ErrorInfo`: UPPER_SNAKE_CASE.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::ScopeMissing => "SCOPE_MISSING",
            Self::Starting => "STARTING",
            Self::PortFull => "PORT_FULL",
            Self::ShuttingDown => "SHUTTING_DOWN",
        }
    }

    /// UNAUTHENTICATED, or PERMISSION_DENIED if the caller is known; UNAVAILABLE if the call may be retried.
    pub fn code(self) -> Code {
        match self {
            Self::TokenMissing | Self::TokenUnknown => Code::Unauthenticated,
            Self::ScopeMissing => Code::PermissionDenied,
            Self::Starting | Self::PortFull | Self::ShuttingDown => Code::Unavailable,
        }
    }

    /// 401, or 403 if the caller is known (RFC 6750, section 3.1); 503 if the request may be retried.
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::TokenMissing | Self::TokenUnknown => StatusCode::UNAUTHORIZED,
            Self::ScopeMissing => StatusCode::FORBIDDEN,
            Self::Starting | Self::PortFull | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The refusal as a gRPC status.
    pub fn into_status(self) -> Status {
        grpc::status(self.code(), self.reason(), self.to_string())
    }

    /// The refusal as a trailers-only gRPC response.
    pub fn grpc_response<B: Default>(self) -> Response<B> {
        self.into_status().into_http()
    }

    /// The refusal as an HTTP response with a JSON body: `{"error": "…", "reason": "TOKEN_MISSING"}`.
    pub fn http_response<B: From<String>>(self) -> Response<B> {
        let body = serde_json::json!({ "error": self.to_string(), "reason": self.reason() });
        let mut response = Response::new(B::from(body.to_string()));
        *response.status_mut() = self.http_status();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if self.http_status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"retort\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
