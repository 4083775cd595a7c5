//! The file with which a service reports its addresses, for port 0 in particular.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::atomic_file;

/// A file with the addresses of a serving process. It exists only while the process serves: dropping this
/// removes it.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    /// Kept open, so that no other file gets its inode number.
    written: Option<File>,
}

impl ReadyFile {
    /// Removes the file of an earlier process that was killed. Call this before the process listens.
    ///
    /// # Errors
    /// If `path` is not a regular file, or the file cannot be removed.
    pub fn prepare(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            let text = format!("cannot remove the ready file {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        };
        match fs::symlink_metadata(path) {
            Ok(file) if file.is_file() => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
                _ => {}
            },
            Ok(_) => return Err(named(io::Error::other("it is not a regular file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(named(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            written: None,
        })
    }

    /// Writes `{"grpc": "127.0.0.1:43121", ...}` atomically. A reader may remove the file and its folder at
    /// once.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, addresses: &[(&str, SocketAddr)]) -> io::Result<()> {
        let addresses: BTreeMap<_, _> = addresses.iter().copied().collect();
        let file = atomic_file::write_for_readers(&self.path, &serde_json::to_vec(&addresses)?)?;
        self.written = Some(file);
        Ok(())
    }
}

impl Drop for ReadyFile {
    /// Does not remove the file of another process with the same path.
    fn drop(&mut self) {
        let number = |file: fs::Metadata| (file.dev(), file.ino());
        let own = self.written.as_ref().and_then(|file| file.metadata().ok());
        let there = fs::symlink_metadata(&self.path).ok();
        if own.is_some() && own.map(number) == there.map(number) {
            // On failure, the next process removes the file before it serves.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads the addresses that [`ReadyFile::write`] wrote; `None` while the file does not exist.
///
/// # Errors
/// If the file exists and cannot be read.
pub fn read(path: &Path) -> io::Result<Option<BTreeMap<String, SocketAddr>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> [(&'static str, SocketAddr); 1] {
        [("grpc", "127.0.0.1:7".parse().unwrap())]
    }

    #[test]
    fn the_file_exists_while_its_process_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/ready.json");
        let mut ready = ReadyFile::prepare(&path).unwrap();
        ready.write(&addresses()).unwrap();
        assert_eq!(read(&path).unwrap().unwrap()["grpc"].port(), 7);
        drop(ready);
        assert!(!path.exists());

        fs::write(&path, "file of a killed process").unwrap();
        drop(ReadyFile::prepare(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_another_process_stays_though_its_content_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let mut first = ReadyFile::prepare(&path).unwrap();
        first.write(&addresses()).unwrap();
        let mut second = ReadyFile::prepare(&path).unwrap();
        second.write(&addresses()).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn only_regular_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [link.as_path(), folder.path()] {
            let error = ReadyFile::prepare(path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
        assert!(target.exists() && link.exists());
    }
}
