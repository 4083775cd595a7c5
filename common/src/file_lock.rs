//! A file or folder that one owner at a time has.

use std::{
    fs::{File, TryLockError},
    ops::Deref,
};

/// A file or folder that nobody else can lock until this is dropped, or its process ends.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Locks what `file` has open, without waiting.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] when another opening of it is locked, in this process or in
    /// another one; I/O errors.
    #[allow(clippy::disallowed_methods, reason = "the one place that locks")]
    pub fn try_take(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
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
    /// Closing the file is not enough: a program that another thread starts at this moment has a
    /// copy of the descriptor until it runs, and every copy keeps the lock.
    fn drop(&mut self) {
        // An error leaves it to the closing, which follows.
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
        // What a program has between its start in another thread and its first instruction.
        let _copy = lock.try_clone().unwrap();

        let again = || FileLock::try_take(File::open(&path).unwrap());
        assert!(matches!(again(), Err(TryLockError::WouldBlock)));
        drop(lock);
        again().unwrap();
    }
}
