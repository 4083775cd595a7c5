//! Where captured samples go, checked before the service opens its ports.

use std::{path::PathBuf, time::Duration};

use common::writable_folder::{self, FolderError};
use object_storage::{Bucket, BucketError, InvalidLocation, Location};

use crate::config::CaptureConfig;

/// How long a request to the bucket is repeated, or waits for an answer, before the uploader pauses.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where captured samples go.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(super) config: CaptureConfig,
    /// The folder of the data set, or the spool of a bucket.
    pub(super) folder: PathBuf,
    pub(super) bucket: Option<Bucket>,
}

/// Samples cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The setting is neither a folder nor the URL of a bucket.
    #[error("capture.folder: {0}")]
    Location(#[source] InvalidLocation),
    /// The folder or the spool cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The environment has no valid credentials for the bucket.
    #[error("capture.folder: {0}")]
    Bucket(#[source] BucketError),
}

impl Destination {
    /// Checks that the folder, or the spool of a bucket, can be written. Sends nothing to a bucket. `None` if nothing is
    /// captured.
    ///
    /// # Errors
    /// See [`DestinationError`].
    pub(crate) fn open(config: &CaptureConfig) -> Result<Option<Self>, DestinationError> {
        if config.share == 0.0 {
            return Ok(None);
        }
        let (folder, bucket) = match config.location().map_err(DestinationError::Location)? {
            Location::Folder(folder) => {
                writable_folder::check("capture.folder", &folder)?;
                (folder, None)
            }
            Location::Bucket(location) => {
                writable_folder::check("capture.spool", &config.spool)?;
                let bucket = Bucket::open(&location, PATIENCE);
                let bucket = bucket.map_err(DestinationError::Bucket)?;
                (config.spool.clone(), Some(bucket))
            }
        };
        Ok(Some(Self {
            config: config.clone(),
            folder,
            bucket,
        }))
    }
}
