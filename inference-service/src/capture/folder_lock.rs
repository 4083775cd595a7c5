//! The right to write captured samples, and what killed services left unfinished.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use common::{atomic_file, file_lock::FileLock, folders};

const LOCK: &str = ".lock";

/// How long a service waits for another one that removes files, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(20);

/// Takes the right to write to `folder`, until the lock is dropped. A service that finds no other one there first removes
/// the temporary files of services that were killed.
///
/// Services must not share a folder. Where they do, none removes a file that another one is writing.
///
/// # Errors
/// I/O errors, and [`io::ErrorKind::WouldBlock`] if the folder stays locked exclusively.
pub(super) fn take(folder: &Path) -> io::Result<FileLock> {
    fs::create_dir_all(folder)?;
    match FileLock::try_take(open(folder)?) {
        Ok(_alone) => remove_unfinished(folder)?,
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match FileLock::try_share(open(folder)?) {
            Ok(lock) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for model in folders::list(folder)?.folders() {
        for shape in folders::list(&model.path)?.folders() {
            atomic_file::remove_unfinished(&shape.path)?;
        }
    }
    Ok(())
}

fn open(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false);
    file.open(folder.join(LOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_alone_removes_unfinished_files() {
        let folder = tempfile::tempdir().unwrap();
        let samples = folder.path().join("m/1x8x8");
        fs::create_dir_all(&samples).unwrap();
        let [finished, unfinished] = ["x-000001.npy", ".writing-x"].map(|name| samples.join(name));
        let leave = || {
            for file in [&finished, &unfinished] {
                fs::write(file, "samples").unwrap();
            }
        };

        leave();
        let first = take(folder.path()).unwrap();
        assert!(finished.exists() && !unfinished.exists());
        leave();
        let second = take(folder.path()).unwrap();
        assert!(unfinished.exists(), "the first service may write it");
        drop((first, second));
        take(folder.path()).unwrap();
        assert!(finished.exists() && !unfinished.exists());
    }
}
