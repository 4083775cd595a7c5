//! Where a service has its runs and their queue: in a folder, or in a bucket.
//!
//! In a bucket, the queue is kept as a run is: its files are in a scratch folder, a lease keeps other services away, and each
//! state of the queue becomes visible as a whole, at `.queue`. Each run has a prefix, a lease and a scratch folder of its own;
//! the conditional write of a record without files takes its name. The bucket has a submitted run before the client gets the
//! answer; a later change of a run's state follows soon. If the machine is lost before that, the next service does the run
//! again from its newest state in the bucket: it finds the run finished, or ends with the same bytes.

use std::path::{Path, PathBuf};

use common::writable_folder;
use object_storage::{BucketLocation, Location};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    error::RequestError,
    run_folders,
    run_id::RunId,
    serve_error::ServeError,
    store::{FOLDER, QueueStore},
    stored_run::StoredRun,
};
use crate::{
    bucket_run::{self, BucketOutput, BucketRun, BucketRunError},
    config::{BucketConfig, TrainerConfig},
    events::{EventSink, RunEvent},
    run::RunOutput,
};

/// The files that tell how a run went.
const OUTLINE: [&str; 2] = ["manifest.json", "metrics.jsonl"];

/// Where a service has its runs and their queue.
#[derive(Debug)]
pub(super) enum RunsHome {
    /// A folder, with a folder for each run.
    Folder(PathBuf),
    Bucket(BucketHome),
}

/// A prefix of a bucket, with a prefix for each run.
#[derive(Debug)]
pub(super) struct BucketHome {
    location: BucketLocation,
    config: BucketConfig,
    /// Ends the waits for the bucket before the service is ready. Cancelled when another service has taken the queue over.
    stop: CancellationToken,
}

/// A folder with those files of [`OUTLINE`] that a run has.
pub(super) struct Outline {
    folder: PathBuf,
    /// Removed with this.
    _copy: Option<TempDir>,
}

impl RunsHome {
    /// The home that `config` names. Cancels `stop` if another service takes the queue over. Sends nothing yet.
    ///
    /// # Errors
    /// If the environment does not have what a connection to the bucket needs.
    pub(super) fn of(config: &TrainerConfig, stop: &CancellationToken) -> Result<Self, ServeError> {
        let location = match Location::parse(&config.runs_folder) {
            Ok(Location::Folder(folder)) => return Ok(Self::Folder(folder)),
            Ok(Location::Bucket(location)) => location,
            Err(problem) => {
                return Err(ServeError::RunsFolder {
                    path: config.runs_folder.clone(),
                    problem: problem.to_string(),
                });
            }
        };
        let home = BucketHome {
            location,
            config: config.bucket.clone(),
            stop: stop.clone(),
        };
        home.output(FOLDER).check_environment()?;
        Ok(Self::Bucket(home))
    }

    /// Checks that a service may write to the folder. A bucket is checked when the queue is opened.
    ///
    /// # Errors
    /// [`ServeError::Folder`].
    pub(super) fn check(&self) -> Result<(), ServeError> {
        if let Self::Folder(folder) = self {
            writable_folder::check("runs_folder", folder)?;
        }
        Ok(())
    }

    /// Takes the queue, and returns its runs, oldest first. Waits until the lease of a service that was killed has ended.
    ///
    /// # Errors
    /// If another service has the queue, or it cannot be read.
    pub(super) fn open_queue(&self) -> Result<(QueueStore, Vec<StoredRun>), ServeError> {
        match self {
            Self::Folder(folder) => QueueStore::open(folder),
            Self::Bucket(bucket) => {
                let log = EventSink::new(|event| {
                    if let RunEvent::Notice { text } = event {
                        info!("{text}");
                    }
                });
                let (queue, stop) = (bucket.output(FOLDER), &bucket.stop);
                let queue = BucketRun::attach(&queue, |_| false, stop, &log.notices())?;
                QueueStore::open_in_bucket(queue)
            }
        }
    }

    /// The output of the run `id`.
    pub(super) fn output(&self, id: &RunId) -> RunOutput {
        match self {
            Self::Folder(folder) => RunOutput::Folder(folder.join(id.to_string())),
            Self::Bucket(bucket) => RunOutput::Bucket(bucket.output(&id.to_string())),
        }
    }

    /// Takes the id `name`, or `name-2`, `name-3`, … if there is such a run. A `known` run keeps its id, even if its folder
    /// was removed.
    pub(super) fn allocate(&self, name: &str, known: &[String]) -> Result<RunId, RequestError> {
        let names = run_folders::names(name).filter(|name| !known.contains(name));
        match self {
            Self::Folder(folder) => run_folders::allocate(folder, names),
            Self::Bucket(bucket) => {
                let name = bucket_run::create(&bucket.location, names)?;
                Ok(RunId::new(name))
            }
        }
    }

    /// What tells how the run at `output` went; `None` if it cannot be read.
    pub(super) fn outline(&self, output: &RunOutput) -> Option<Outline> {
        let copied = match (self, output) {
            (Self::Bucket(bucket), RunOutput::Bucket(run)) => bucket.copy_outline(run),
            (_, output) => {
                return Some(Outline {
                    folder: output.folder().to_owned(),
                    _copy: None,
                });
            }
        };
        let copied = copied.inspect_err(|error| warn!(%error, "how a run went cannot be read"));
        copied.ok()
    }
}

impl BucketHome {
    /// The output called `name`.
    fn output(&self, name: &str) -> BucketOutput {
        BucketOutput {
            location: self.location.below(name),
            scratch: self.config.scratch.clone(),
            lease_seconds: self.config.lease_seconds,
            patience: self.config.patience(),
        }
    }

    fn copy_outline(&self, run: &BucketOutput) -> Result<Outline, BucketRunError> {
        let copy = match &self.config.scratch {
            Some(scratch) => tempfile::tempdir_in(scratch)?,
            None => tempfile::tempdir()?,
        };
        bucket_run::fetch_files(&run.location, &OUTLINE, copy.path(), &self.stop)?;
        Ok(Outline {
            folder: copy.path().to_owned(),
            _copy: Some(copy),
        })
    }
}

impl Outline {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}
