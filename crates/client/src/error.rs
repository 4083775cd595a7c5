//! The errors of calls.

use std::time::Duration;

use server::security::client::ConnectError;
use tonic::Code;

/// Why a call failed. The message names the address.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address or the credentials cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The service does not answer, or the TLS handshake failed, also at the last retry.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// The service's address.
        address: String,
        /// The cause.
        reason: String,
    },
    /// The service returned an error, or the connection was lost, also at the last retry.
    #[error("{address} answered {code:?}: {message}")]
    Refused {
        /// The service's address.
        address: String,
        /// The code of gRPC.
        code: Code,
        /// The service's message, or why the connection was lost.
        message: String,
    },
    /// The deadline passed.
    #[error("{address} did not answer within {limit:?}")]
    Deadline {
        /// The service's address.
        address: String,
        /// [`ClientOptions::deadline`](crate::ClientOptions::deadline).
        limit: Duration,
    },
    /// The answer violates the protocol.
    #[error("{address} sent an invalid answer: {problem}")]
    Answer {
        /// The service's address.
        address: String,
        /// The problem.
        problem: String,
    },
}
