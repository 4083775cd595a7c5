//! Why the run service rejects a call, and the gRPC code of each reason.

use std::{io, path::PathBuf};

use common::config::ConfigError;
use proto::runs::v1::RunState;
use server::grpc;
use tonic::{Code, Status};

use crate::{bucket_run::BucketRunError, config::NotAllowed, engine::DeviceUnavailable};

/// Why a call was rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error(transparent)]
    Device(#[from] DeviceUnavailable),
    #[error(
        "`{name}` cannot name a run: use up to 64 letters, digits, `-`, `_` and `.`, not \
         beginning with a dot"
    )]
    InvalidName { name: String },
    #[error("no run `{id}`; {}", known_runs(known))]
    UnknownRun { id: String, known: Vec<String> },
    #[error("run `{id}` has ended already ({})", state.as_str_name())]
    AlreadyEnded { id: String, state: RunState },
    #[error(
        "run `{id}` cannot be resumed: it is {}; only a run that failed or was cancelled can",
        state.as_str_name()
    )]
    NothingToResume { id: String, state: RunState },
    #[error("{waiting} runs wait already; try again when one has ended, or cancel one")]
    QueueFull { waiting: usize },
    #[error("the trainer is shutting down")]
    ShuttingDown,
    #[error("cannot make the run's folder {}: {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error("the bucket of the runs did not take the run, which is not queued; try again: {0}")]
    Bucket(#[from] BucketRunError),
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        use RequestError as E;
        let (code, reason) = match &error {
            E::Config(_) => (Code::InvalidArgument, "INVALID_CONFIG"),
            E::NotAllowed(_) => (Code::PermissionDenied, "FOLDER_NOT_ALLOWED"),
            E::Device(_) => (Code::FailedPrecondition, "DEVICE_UNAVAILABLE"),
            E::InvalidName { .. } => (Code::InvalidArgument, "INVALID_RUN_NAME"),
            E::UnknownRun { .. } => (Code::NotFound, "UNKNOWN_RUN"),
            E::AlreadyEnded { .. } => (Code::FailedPrecondition, "RUN_ENDED"),
            E::NothingToResume { .. } => (Code::FailedPrecondition, "RUN_NOT_RESUMABLE"),
            E::QueueFull { .. } => (Code::ResourceExhausted, "QUEUE_FULL"),
            E::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
            E::Folder { .. } => (Code::Internal, "RUN_FOLDER"),
            E::Bucket(_) => (Code::Unavailable, "BUCKET_UNAVAILABLE"),
        };
        grpc::status(code, reason, error.to_string())
    }
}

fn known_runs(known: &[String]) -> String {
    match known {
        [] => "there are none".to_owned(),
        known => format!("there are {}", known.join(", ")),
    }
}
