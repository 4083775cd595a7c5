//! Where a run writes: a folder, or a bucket.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    error::RunError,
    execution::{RunContext, RunOutcome, execute},
    in_bucket::execute_in_bucket,
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
            Self::Bucket(output) => execute_in_bucket(config, output, context),
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
