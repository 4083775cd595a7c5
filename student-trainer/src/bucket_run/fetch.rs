//! Downloads a run from a bucket, for those who only read it.

use std::{fs, io, path::Path, time::Duration};

use object_storage::{Bucket, BucketLocation};
use tokio_util::sync::CancellationToken;

use super::{
    attachment::connect, download::download, error::BucketRunError, persistence::Persistence,
    record::RunRecord,
};

/// Downloads the newest state of the run at `location` into `folder`, which is created and must not exist or be empty. The
/// run may be in progress. Waits for so long for a bucket that does not answer.
///
/// Must not be called on a thread of an async runtime.
///
/// # Errors
/// See [`BucketRunError`].
pub fn fetch(
    location: &BucketLocation,
    folder: &Path,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<(), BucketRunError> {
    check_free(folder)?;
    let url = location.to_string();
    let persistence = Persistence {
        url: &url,
        patience,
        stop,
    };
    fetch_from(&connect(location)?, folder, persistence)
}

/// [`fetch`] from `bucket`.
pub(super) fn fetch_from(
    bucket: &Bucket,
    folder: &Path,
    persistence: Persistence<'_>,
) -> Result<(), BucketRunError> {
    let read = || persistence.repeat(|| RunRecord::read(bucket));
    let mut found = read()?;
    while let Some(before) = found {
        match download(bucket, &before.record, folder, persistence) {
            Ok(()) => return Ok(()),
            Err(error) => {
                // The trainer removes the objects of old generations.
                found = read()?;
                let generation = found.as_ref().map(|found| found.record.generation);
                if generation == Some(before.record.generation) {
                    return Err(error);
                }
            }
        }
    }
    Err(BucketRunError::NoRun {
        url: persistence.url.to_owned(),
    })
}

fn check_free(folder: &Path) -> Result<(), BucketRunError> {
    let is_empty = fs::read_dir(folder).map(|mut entries| entries.next().is_none());
    let problem = match is_empty {
        Ok(true) => return Ok(()),
        Ok(false) => "is not empty; choose another folder".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => error.to_string(),
    };
    Err(BucketRunError::Folder {
        folder: folder.to_owned(),
        problem,
    })
}
