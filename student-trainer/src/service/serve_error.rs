//! Why the run service did not start, or ended early.

use std::{io, path::PathBuf};

use common::writable_folder::FolderError;
use server::security::SecurityError;

use crate::bucket_run::BucketRunError;

/// Why the service did not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken, or a certificate, key or tokens file cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The runs' folder cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// This process already has a metrics recorder.
    #[error("cannot start the metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The queue of an earlier service cannot be read or written.
    #[error("cannot use the queue of runs: {}: {problem}", path.display())]
    RunsFolder {
        /// The file or folder.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// Another service has the queue.
    #[error(
        "another student-trainer serves the runs in {}; stop it, or set runs_folder",
        .0.display()
    )]
    RunsFolderInUse(PathBuf),
    /// The queue in the bucket cannot be used, or another service has it.
    #[error("cannot use the queue of runs below runs_folder: {0}")]
    Bucket(#[from] BucketRunError),
    /// Another service has taken the queue in the bucket over.
    #[error(
        "another student-trainer has taken over the runs in {}, because this one did not renew its lease in time",
        .0.display()
    )]
    RunsTakenOver(PathBuf),
    /// The thread of the runs cannot be started.
    #[error("cannot start the thread that does the runs: {0}")]
    Thread(io::Error),
    /// The ready file cannot be written; the text names it.
    #[error("{0}")]
    ReadyFile(io::Error),
    /// The gRPC server failed.
    #[error("the gRPC server failed: {0}")]
    Transport(String),
    /// Reflection could not be set up from the compiled-in descriptors.
    #[error("cannot set up reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}
