//! Errors of streams, and their gRPC codes.

use artifacts::manifest::TeacherIdentity;
use server::grpc::status;
use tonic::{Code, Status};

use crate::backend::BackendError;

/// Why a stream ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The first message is not Open, or there is none.
    #[error("the first message of a stream must be Open")]
    NotOpened,
    /// The first message did not arrive in time.
    #[error("no Open arrived within {seconds} s")]
    OpenTimedOut {
        /// How long the service waited.
        seconds: u64,
    },
    /// The trainer sent a second Open.
    #[error("the stream is open already; send one Open per stream")]
    OpenedTwice,
    /// The message has no known oneof field.
    #[error("a message is neither Open nor Batch")]
    UnknownMessage,
    /// The teacher does not support the encoding.
    #[error(
        "encoding {encoding} with k = {k} and temperature = {temperature} is not supported; use one that Describe \
         lists, with a k from 1 to 65536 for top-k, and a k from 1 to 1024 and a temperature from 1 to 100 for sampled"
    )]
    Encoding {
        /// The encoding in the message.
        encoding: i32,
        /// The k in the message.
        k: u32,
        /// The temperature in the message.
        temperature: u32,
    },
    /// The trainer expects another model.
    #[error("the stream was opened for model {wanted}, but this teacher is model {served}")]
    OtherModel {
        /// The trainer's model id.
        wanted: String,
        /// The teacher's model id.
        served: String,
    },
    /// The trainer expects the same model with other numerics.
    #[error(
        "the stream was opened for numerics `{}` (probe {}), but this teacher has `{}` (probe {})",
        .wanted.numerics, .wanted.probe_sha256, .served.numerics, .served.probe_sha256
    )]
    OtherNumerics {
        /// The identity that the trainer expects.
        wanted: Box<TeacherIdentity>,
        /// The identity of the teacher.
        served: Box<TeacherIdentity>,
    },
    /// The trainer exceeds its credit.
    #[error("more than {credit} batches in flight, the credit of this stream")]
    CreditExceeded {
        /// Batches that may be in flight.
        credit: u32,
    },
    /// The trainer sends references that the stream does not allow.
    #[error(
        "this stream takes no references to samples: Opened allows them if Open names data that this teacher has"
    )]
    NotByReference,
    /// The limit of open streams is reached.
    #[error("the teacher has reached its limit of {limit} open streams")]
    TooManyStreams {
        /// Streams that may be open.
        limit: usize,
    },
    /// The teacher is stopping.
    #[error("this teacher is shutting down")]
    Draining,
    /// The teacher stopped before it had answered all batches.
    #[error("this teacher shut down before every batch was answered")]
    CutOff,
    /// The trainer does not read its answers.
    #[error("the trainer has read no answer for {seconds} s")]
    SlowReader {
        /// How long the service waited.
        seconds: u64,
    },
    /// The backend failed, for example for lack of memory.
    #[error("batch {batch} could not be computed: {error}")]
    Compute {
        /// The trainer's id of the batch.
        batch: u64,
        /// The error of the backend.
        error: BackendError,
    },
    /// The compute thread has ended.
    #[error("the compute thread of this teacher has stopped")]
    ComputeStopped,
    /// The message is too large or invalid, or the connection was lost.
    #[error("{}", .0.message())]
    Inbound(Status),
}

impl StreamError {
    /// Returns the status for the caller. This is the only mapping of the service's errors to gRPC codes.
    pub fn into_status(self) -> Status {
        let (code, reason) = match self {
            StreamError::NotOpened => (Code::InvalidArgument, "NOT_OPENED"),
            StreamError::OpenTimedOut { .. } => (Code::InvalidArgument, "OPEN_TIMED_OUT"),
            StreamError::OpenedTwice => (Code::InvalidArgument, "OPENED_TWICE"),
            StreamError::UnknownMessage => (Code::InvalidArgument, "UNKNOWN_MESSAGE"),
            StreamError::Encoding { .. } => (Code::InvalidArgument, "ENCODING_NOT_OFFERED"),
            StreamError::OtherModel { .. } => (Code::FailedPrecondition, "OTHER_MODEL"),
            StreamError::OtherNumerics { .. } => (Code::FailedPrecondition, "OTHER_NUMERICS"),
            StreamError::CreditExceeded { .. } => (Code::ResourceExhausted, "CREDIT_EXCEEDED"),
            StreamError::NotByReference => (Code::InvalidArgument, "NOT_BY_REFERENCE"),
            StreamError::TooManyStreams { .. } => (Code::ResourceExhausted, "TOO_MANY_STREAMS"),
            StreamError::Draining => (Code::Unavailable, "DRAINING"),
            StreamError::CutOff => (Code::Unavailable, "CUT_OFF"),
            StreamError::SlowReader { .. } => (Code::ResourceExhausted, "SLOW_READER"),
            StreamError::Compute { .. } => (Code::Internal, "COMPUTE_FAILED"),
            StreamError::ComputeStopped => (Code::Internal, "COMPUTE_STOPPED"),
            StreamError::Inbound(status) => return status,
        };
        status(code, reason, self.to_string())
    }
}
