//! Why a call is refused, and which gRPC code says so.

use artifacts::manifest::TeacherIdentity;
use server::grpc::status;
use tonic::{Code, Status};

use crate::backend::BackendError;

/// Why a stream is refused or cut short.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Something else came first, or nothing.
    #[error("the first message of a stream must be Open")]
    NotOpened,
    /// Nothing came.
    #[error("no Open came within {seconds} s")]
    OpenTimedOut {
        /// How long the service waited.
        seconds: u64,
    },
    /// A stream serves one teacher only.
    #[error("the stream is open already; send one Open a stream")]
    OpenedTwice,
    /// No oneof is set, or one that this version does not know.
    #[error("a message is neither Open nor Batch")]
    UnknownMessage,
    /// The teacher cannot answer like that.
    #[error(
        "encoding {encoding} with k = {k} is not offered; ask for one that Describe lists, top-k ones \
         with k from 1 to 65536"
    )]
    Encoding {
        /// As in the message.
        encoding: i32,
        /// As in the message.
        k: u32,
    },
    /// The trainer wants other weights or another architecture.
    #[error("the stream was opened for model {wanted}, but this teacher is model {served}")]
    OtherModel {
        /// The trainer's model id.
        wanted: String,
        /// The teacher's.
        served: String,
    },
    /// The trainer wants the same model computed in another way.
    #[error(
        "the stream was opened for numerics `{}` (probe {}), but this teacher has `{}` (probe {})",
        .wanted.numerics, .wanted.probe_sha256, .served.numerics, .served.probe_sha256
    )]
    OtherNumerics {
        /// What the trainer expects.
        wanted: Box<TeacherIdentity>,
        /// What the teacher is.
        served: Box<TeacherIdentity>,
    },
    /// The trainer does not keep to its credit.
    #[error("more than {credit} batches in flight, the credit of this stream")]
    CreditExceeded {
        /// Batches that may be in flight.
        credit: u32,
    },
    /// The teacher has all the trainers that it takes.
    #[error("{limit} streams are open, and no more are taken at a time")]
    TooManyStreams {
        /// Streams that may be open.
        limit: usize,
    },
    /// The teacher stops and takes no new streams.
    #[error("this teacher is shutting down")]
    Draining,
    /// The teacher stopped before everything was answered.
    #[error("this teacher shut down before every batch was answered")]
    CutOff,
    /// The trainer leaves its answers lying.
    #[error("none of the waiting answers was taken for {seconds} s")]
    SlowReader {
        /// How long the service waited.
        seconds: u64,
    },
    /// The engine failed, as when memory is short.
    #[error("batch {batch} could not be computed: {error}")]
    Compute {
        /// The trainer's name for it.
        batch: u64,
        /// The engine's words.
        error: BackendError,
    },
    /// The compute thread is gone.
    #[error("this teacher cannot compute any more")]
    ComputeStopped,
    /// The message is too large, is no such message, or the connection broke.
    #[error("{}", .0.message())]
    Inbound(Status),
}

impl StreamError {
    /// The status that a caller sees: the one place where errors become gRPC codes.
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
