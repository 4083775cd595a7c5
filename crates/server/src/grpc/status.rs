//! Statuses with error details, and what a client can tell from a status.

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt};

pub use proto::ERROR_DOMAIN;

/// Longest message of a status, bytes. The headers contain it twice, once percent-encoded with up to three
/// bytes for each byte, and clients accept 16 KiB of headers.
const LONGEST_MESSAGE: usize = 3_000;

/// Creates a status with an `ErrorInfo` whose `reason` (UPPER_SNAKE_CASE) clients can match. Truncates long
/// messages, because some contain data of the caller.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let mut message = message.into();
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
    Status::with_error_details(code, message, details)
}

/// Why a call failed: the server's message, or the cause of a lost connection.
pub fn reason(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => root_cause(source),
        None => status.message().to_owned(),
    }
}

/// Whether an idempotent call that failed with `status` may be retried: the server is UNAVAILABLE, or the
/// connection was lost. DEADLINE_EXCEEDED is not retried.
pub fn is_away(status: &Status) -> bool {
    // A status of tonic's client has the transport's error as its source; one of a server has no source.
    let mut source = std::error::Error::source(status);
    let connection_lost = source.is_some();
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return false;
        }
        source = error.source();
    }
    connection_lost || status.code() == Code::Unavailable
}

/// Returns the innermost source of `error`: tonic's own text is only "transport error".
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_truncated_between_letters() {
        for letter in ["a", "é", "語"] {
            // Shifted by one, so that the limit is within a letter.
            let text = format!("a{}", letter.repeat(LONGEST_MESSAGE + 1));
            let long = status(Code::Internal, "LONG", text);
            let message = long.message();
            assert!(message.len() <= LONGEST_MESSAGE + '…'.len_utf8());
            assert!(message.len() > LONGEST_MESSAGE - 4);
            assert!(message.ends_with(&format!("{letter}…")));
        }
        assert_eq!(status(Code::Internal, "SHORT", "short").message(), "short");
    }
}
