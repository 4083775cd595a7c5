//! Where a run writes: a folder, or a bucket.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    error::RunError,
    execution::{RunContext, RunOutcome, execute},
    folder::FolderError,
    in_bucket::{WhenTaken, complete, execute_in_bucket},
};
use crate::{bucket_run::BucketOutput, config::RunConfig};

/// The output of a run. Displayed as the folder or the URL.
#[derive(Debug, Clone)]
pub enum RunOutput {
    /// A folder.
    Folder(PathBuf),
    /// A prefix of a bucket.
    Bucket(BucketOutput),
}

impl RunOutput {
    /// Does the run of `config` like [`execute`], with this output. Ignores the folder of `context`.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn execute(
        &self,
        config: RunConfig,
        context: RunContext<'_>,
    ) -> Result<RunOutcome, RunError> {
        let folder = self.folder();
        let context = RunContext { folder, ..context };
        match self {
            Self::Folder(_) => execute(config, context),
            Self::Bucket(output) => execute_in_bucket(config, output, WhenTaken::Refuse, context),
        }
    }

    /// Does the run of `config` like [`Self::execute`], after it waited in a queue: another trainer may have begun or
    /// finished it meanwhile. In a bucket, waits until no other trainer has it. A finished run of the same configuration
    /// is this one.
    ///
    /// # Errors
    /// See [`RunError`]; [`FolderError::AlreadyFinished`] and [`BucketRunError::AlreadyFinished`] if another run is finished
    /// there.
    ///
    /// [`BucketRunError::AlreadyFinished`]: crate::bucket_run::BucketRunError::AlreadyFinished
    pub fn execute_queued(
        &self,
        config: RunConfig,
        context: RunContext<'_>,
    ) -> Result<RunOutcome, RunError> {
        let folder = match self {
            Self::Folder(folder) => folder,
            Self::Bucket(output) => {
                return execute_in_bucket(config, output, WhenTaken::Share, context);
            }
        };
        match execute(config.clone(), RunContext { folder, ..context }) {
            Err(finished @ RunError::Folder(FolderError::AlreadyFinished(_))) => {
                let outcome = complete(folder, &config).ok_or(finished)?;
                let notices = context.events.notices();
                notices.notice(format!("the run is complete in {self}"));
                Ok(outcome)
            }
            executed => executed,
        }
    }

    /// The folder. Empty for a run in a bucket, which works in a scratch folder.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Bucket(_) => Path::new(""),
        }
    }
}

impl fmt::Display for RunOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Bucket(bucket) => write!(f, "{}", bucket.url()),
        }
    }
}
