//! Downloads a run from a bucket, for those who only read it.

use std::{fs, io, path::Path, time::Duration};

use common::atomic_file;
use object_storage::{Bucket, BucketLocation};
use tokio_util::sync::CancellationToken;

use super::{
    attachment::connect,
    download::{download, download_file},
    error::BucketRunError,
    persistence::Persistence,
    record::RunRecord,
};

/// Downloads the newest state of the run at `location` into `folder`, which is created and must not exist or be empty. The
/// run may be in progress. Waits for so long for a bucket that does not answer. Cancelling `stop` ends the wait, also for a
/// request that was sent.
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
    let bucket = &bucket.clone().stopped_by(persistence.stop.clone());
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

/// Downloads those of `files` that the run at `location` has to `folder`, which exists. There may be no run. Cancelling `stop`
/// ends a request at once.
///
/// Must not be called on a thread of an async runtime.
///
/// # Errors
/// Those of the bucket; I/O errors.
pub fn fetch_files(
    location: &BucketLocation,
    files: &[&str],
    folder: &Path,
    stop: &CancellationToken,
) -> Result<(), BucketRunError> {
    let bucket = connect(location)?.stopped_by(stop.clone());
    files_from(&bucket, files, folder)
}

/// [`fetch_files`] from `bucket`.
pub(super) fn files_from(
    bucket: &Bucket,
    files: &[&str],
    folder: &Path,
) -> Result<(), BucketRunError> {
    let Some(found) = RunRecord::read(bucket)? else {
        return Ok(());
    };
    for (path, file) in &found.record.files {
        if files.contains(&path.as_str()) {
            let content = download_file(bucket, file)?;
            atomic_file::write(&folder.join(path), &content)?;
        }
    }
    Ok(())
}

/// Fails if `folder` cannot be created: before the download, not after it. Removes an empty folder.
fn check_free(folder: &Path) -> Result<(), BucketRunError> {
    const CHOOSE: &str = "choose a folder that does not exist";
    let is_empty = fs::read_dir(folder).map(|mut entries| entries.next().is_none());
    let problem = match is_empty {
        _ if folder.file_name().is_none() => format!("has no name of its own; {CHOOSE}"),
        Ok(true) => match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            // For example a mounted volume.
            Err(error) => format!("cannot be replaced ({error}); {CHOOSE}"),
        },
        Ok(false) => "is not empty; choose another folder".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => error.to_string(),
    };
    Err(BucketRunError::Folder {
        folder: folder.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_can_become_the_folder_of_a_run_is_free() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        for folder in ["empty", "full", "target"] {
            fs::create_dir(path(folder)).unwrap();
        }
        fs::write(path("full/file"), "x").unwrap();
        symlink("target", path("link")).unwrap();
        for (folder, problem) in [
            ("new", None),
            ("new/below", None),
            ("empty/", None),
            ("full", Some("is not empty")),
            ("full/file", Some("full/file: ")),
            ("link", Some("cannot be replaced")),
            ("target/..", Some("no name of its own")),
        ] {
            let found = check_free(&path(folder)).map_err(|error| error.to_string());
            match (found, problem) {
                (Ok(()), None) => assert!(!path(folder).exists(), "{folder}"),
                (Err(found), Some(problem)) => assert!(found.contains(problem), "{found}"),
                (found, _) => panic!("{folder}: {found:?}"),
            }
        }
        assert!(path("target").exists() && path("full/file").exists());
        for folder in [".", "..", "/", ""] {
            let error = check_free(Path::new(folder)).unwrap_err().to_string();
            assert!(error.contains("no name of its own"), "{folder}: {error}");
        }
    }
}
