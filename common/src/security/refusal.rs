//! Why a call is refused, and how that is said over gRPC and over HTTP.

use http::{HeaderValue, Response, StatusCode, header};
use tonic::Code;

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
}

impl Refusal {
    /// UPPER_SNAKE_CASE, for programs: the reason of gRPC's `ErrorInfo`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::ScopeMissing => "SCOPE_MISSING",
        }
    }

    /// UNAUTHENTICATED, or PERMISSION_DENIED where the caller is known.
    pub fn code(self) -> Code {
        match self {
            Self::TokenMissing | Self::TokenUnknown => Code::Unauthenticated,
            Self::ScopeMissing => Code::PermissionDenied,
        }
    }

    /// 401, or 403 where the caller is known (RFC 6750, section 3.1).
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::TokenMissing | Self::TokenUnknown => StatusCode::UNAUTHORIZED,
            Self::ScopeMissing => StatusCode::FORBIDDEN,
        }
    }

    /// As gRPC has it: no body, all in the headers.
    pub(super) fn grpc_response<B: Default>(self) -> Response<B> {
        grpc::status(self.code(), self.reason(), self.to_string()).into_http()
    }

    /// As JSON: `{"error": "…", "reason": "TOKEN_MISSING"}`.
    pub(super) fn http_response<B: From<String>>(self) -> Response<B> {
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
