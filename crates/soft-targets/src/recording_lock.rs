//! The right to write to a recording, which several processes share.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use common::{atomic_file, file_lock::FileLock, folders};

use crate::error::StoreError;

const LOCK: &str = ".lock";

/// How long a process waits for another one that removes temporary files, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(20);

/// The right to write to a recording. Several processes may have it.
///
/// A process that finds no other one removes the temporary files of processes that were killed: before it takes
/// the right and after it gave it back. So the last one to end leaves nothing but the recording.
#[derive(Debug)]
pub struct RecordingLock {
    /// `None` in a bucket.
    _lock: Option<SharedLock>,
}

/// A shared lock on the file in a recording's folder.
#[derive(Debug)]
struct SharedLock {
    folder: PathBuf,
    /// `None` once the right was given back.
    shared: Option<FileLock>,
}

impl RecordingLock {
    /// The right to write to a recording in a bucket, which has no temporary files and needs no lock.
    pub(crate) fn without_file() -> Self {
        Self { _lock: None }
    }

    /// Takes the right to write to the recording in `folder`, which is created if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Locked`], I/O errors.
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let lock = SharedLock::take_within(PATIENCE, folder)?;
        Ok(Self { _lock: Some(lock) })
    }
}

impl SharedLock {
    fn take_within(limit: Duration, folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        remove_unfinished_if_alone(folder)?;
        let deadline = Instant::now() + limit;
        loop {
            match FileLock::try_share(open(folder)?) {
                Ok(lock) => {
                    return Ok(Self {
                        folder: folder.to_owned(),
                        shared: Some(lock),
                    });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let folder = folder.to_owned();
                    return Err(StoreError::Locked { folder });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(StoreError::io(folder.join(LOCK))(error));
                }
            }
        }
    }
}

impl Drop for SharedLock {
    fn drop(&mut self) {
        drop(self.shared.take());
        // The next process removes what this one cannot.
        let _ = remove_unfinished_if_alone(&self.folder);
    }
}

/// Removes the temporary files of killed processes, unless a process may still write one.
fn remove_unfinished_if_alone(folder: &Path) -> Result<(), StoreError> {
    let _alone = match FileLock::try_take(open(folder)?) {
        Ok(lock) => lock,
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(StoreError::io(folder.join(LOCK))(error)),
    };
    let listing = folders::list(folder).map_err(StoreError::io(folder))?;
    let views = listing.folders();
    let views = views.filter(|entry| entry.name.starts_with("view-"));
    let views = views.map(|entry| entry.path.as_path());
    for folder in views.chain([folder]) {
        atomic_file::remove_unfinished(folder).map_err(StoreError::io(folder))?;
    }
    Ok(())
}

fn open(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    // A network file system grants a shared lock to readers, and an exclusive one to writers.
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false);
    file.open(&path).map_err(StoreError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_process_remove_unfinished_files_and_none_between() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let view = folder.join("view-0000");
        fs::create_dir(&view).unwrap();
        fs::write(view.join("shard-00000.safetensors"), "a shard").unwrap();
        let unfinished = [folder, &view].map(|folder| folder.join(".writing-x"));
        let leave = || {
            for file in &unfinished {
                fs::write(file, "half a file").unwrap();
            }
        };
        let left = || unfinished.iter().filter(|file| file.exists()).count();

        leave();
        let first = RecordingLock::take(folder).unwrap();
        assert_eq!(left(), 0);
        leave();
        let second = RecordingLock::take(folder).unwrap();
        drop(first);
        assert_eq!(left(), 2, "another process may write these files");
        drop(second);
        assert_eq!(left(), 0);
        assert_eq!(fs::read_dir(view).unwrap().count(), 1);
    }

    #[test]
    fn an_exclusive_lock_that_stays_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let _alone = FileLock::try_take(open(folder.path()).unwrap()).unwrap();
        let taken = SharedLock::take_within(Duration::ZERO, folder.path());
        let error = taken.unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        assert!(error.to_string().contains(".lock"), "{error}");
    }
}
