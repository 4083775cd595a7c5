//! Why a call is refused, and how that is said over gRPC and over HTTP.

use http::{HeaderValue, Response, StatusCode, header};
use tonic::{Code, Status};

use crate::grpc;

/// Why a call is refused before it reaches the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token, or something else where it belongs.
    #[error("a token is needed: send it as `authorization: Bearer TOKEN`")]
    TokenMissing,
    /// Not one that the service accepts.
    #[error("the token is not one that this service accepts")]
    TokenUnknown,
    /// It allows other things.
    #[error("the token does not allow this call")]
    ScopeMissing,
    /// The service is not ready for calls yet.
    #[error("the service is still loading; try again later")]
    Starting,
    /// Every connection that the port may have is taken.
    #[error("the port has as many connections as it may have; try again later")]
    PortFull,
    /// The service stops, and the rest of the request did not come.
    #[error("the service is shutting down; try again later, or elsewhere")]
    ShuttingDown,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::TokenMissing,
        Self::TokenUnknown,
        Self::ScopeMissing,
        Self::Starting,
        Self::PortFull,
        Self::ShuttingDown,
    ];

    /// UPPER_SNAKE_CASE, for programs: the reason of gRPC's `ErrorInfo`.
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

    /// UNAUTHENTICATED, or PERMISSION_DENIED where the caller is known; UNAVAILABLE where the call may
    /// be made again.
    pub fn code(self) -> Code {
        match self {
            Self::TokenMissing | Self::TokenUnknown => Code::Unauthenticated,
            Self::ScopeMissing => Code::PermissionDenied,
            Self::Starting | Self::PortFull | Self::ShuttingDown => Code::Unavailable,
        }
    }

    /// 401, or 403 where the caller is known (RFC 6750, section 3.1); 503 where the request may be made
    /// again.
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::TokenMissing | Self::TokenUnknown => StatusCode::UNAUTHORIZED,
            Self::ScopeMissing => StatusCode::FORBIDDEN,
            Self::Starting | Self::PortFull | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// For gRPC.
    pub fn into_status(self) -> Status {
        grpc::status(self.code(), self.reason(), self.to_string())
    }

    /// As gRPC has it: no body, all in the headers.
    pub fn grpc_response<B: Default>(self) -> Response<B> {
        self.into_status().into_http()
    }

    /// As JSON: `{"error": "…", "reason": "TOKEN_MISSING"}`.
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
