//! Why a run cannot have its output in a bucket.

use std::{io, path::PathBuf};

use object_storage::BucketError;

/// Why a run cannot have its output in a bucket. Each text names the bucket or the file.
#[derive(Debug, thiserror::Error)]
pub enum BucketRunError {
    /// The URL has no name for the run.
    #[error("{url} has no name for the run; give a path in the bucket, such as {url}/runs/NAME")]
    NoName {
        /// The URL.
        url: String,
    },
    /// Another process renews its lease.
    #[error("another trainer ({holder}) uses {url}; wait for it, or choose another output")]
    InUse {
        /// The run.
        url: String,
        /// The process.
        holder: String,
    },
    /// Another process of this machine has the scratch folder.
    #[error(
        "another trainer on this machine uses {url} with the scratch folder {}; wait for it, or choose another output",
        folder.display()
    )]
    ScratchInUse {
        /// The run.
        url: String,
        /// The scratch folder.
        folder: PathBuf,
    },
    /// Another process took the lease over.
    #[error(
        "another trainer ({holder}) has taken over {url}, because this one did not renew its lease in time; this run ends \
         and leaves the bucket to the other one"
    )]
    LostLease {
        /// The run.
        url: String,
        /// The process that has the lease.
        holder: String,
    },
    /// The bucket has a finished run, which is not overwritten.
    #[error("{url} already holds a finished run; choose another output or remove this one")]
    AlreadyFinished {
        /// The run.
        url: String,
    },
    /// The prefix has other objects.
    #[error("{url} holds other objects and no run, such as {object}; choose another output")]
    Foreign {
        /// The output.
        url: String,
        /// One of the objects.
        object: String,
    },
    /// The prefix has no run.
    #[error("{url} holds no run: run.json is missing")]
    NoRun {
        /// The URL.
        url: String,
    },
    /// An object does not have the content that it should have.
    #[error("{url}: {problem}")]
    Damaged {
        /// The object.
        url: String,
        /// The problem.
        problem: String,
    },
    /// The folder of this machine cannot be used.
    #[error("{}: {problem}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The bucket lacks the last state of the run.
    #[error(
        "{url} lacks the last state of the run ({problem}); nothing is lost: it is in {}, and the same command on this \
         machine copies it to the bucket",
        folder.display()
    )]
    Unsaved {
        /// The run.
        url: String,
        /// The run's folder on this machine.
        folder: PathBuf,
        /// Why it could not be copied.
        problem: String,
    },
    /// The bucket may or may not have the last change.
    #[error("{url} has not confirmed the last change: {problem}")]
    Unconfirmed {
        /// The run.
        url: String,
        /// Why there is no confirmation.
        problem: String,
    },
    /// The process was asked to stop before the run began.
    #[error("stopped; {url} has the same files as before")]
    Stopped {
        /// The run.
        url: String,
    },
    /// The bucket does not answer, or rejects a request.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A file of this machine cannot be read or written; the text names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BucketRunError {
    /// Whether the same request may succeed later. One that ended because the process was asked to stop is not repeated.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Bucket(error) => {
                let is_generic = matches!(error.source, object_store::Error::Generic { .. });
                is_generic && error.larger().is_none() && !error.is_stopped()
            }
            _ => false,
        }
    }
}
