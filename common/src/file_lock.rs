//! Locks on files and folders.

use std::{
    fs::{File, TryLockError},
    ops::Deref,
};

/// A lock on a file or folder, exclusive or shared with other processes, released when this is dropped or its process ends.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Locks the open `file` exclusively, without waiting.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if this or another process holds a lock on the same file; I/O errors.
    #[allow(clippy::disallowed_methods, reason = "the one place that locks")]
    pub fn try_take(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// Locks the open `file` without waiting, together with others that share the lock. On a network file
    /// system `file` must be open for reading.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if this or another process holds an exclusive lock on the same file; I/O
    /// errors.
    #[allow(clippy::disallowed_methods, reason = "the one place that locks")]
    pub fn try_share(file: File) -> Result<Self, TryLockError> {
        file.try_lock_shared()?;
        Ok(Self(file))
    }
}

impl Deref for FileLock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for FileLock {
    /// Closing the file is not enough: a child process that another thread is starting has a copy of the
    /// descriptor until it executes its program, and every copy keeps the lock.
    fn drop(&mut self) {
        // On an error, closing the file releases the lock.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_owner_though_a_copy_of_the_descriptor_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let lock = FileLock::try_take(File::create(&path).unwrap()).unwrap();
        // As in a child process before it executes its program.
        let _copy = lock.try_clone().unwrap();

        let again = || FileLock::try_take(File::open(&path).unwrap());
        assert!(matches!(again(), Err(TryLockError::WouldBlock)));
        drop(lock);
        again().unwrap();
    }
    #[test]
    fn a_shared_lock_keeps_out_an_exclusive_one_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        File::create(&path).unwrap();
        let open = || File::open(&path).unwrap();
        let shared = [(); 2].map(|()| FileLock::try_share(open()).unwrap());
        let exclusive = || FileLock::try_take(open());
        assert!(matches!(exclusive(), Err(TryLockError::WouldBlock)));
        drop(shared);
        let alone = exclusive().unwrap();
        let shared = FileLock::try_share(open());
        assert!(matches!(shared, Err(TryLockError::WouldBlock)));
        drop(alone);
        FileLock::try_share(open()).unwrap();
    }
}
