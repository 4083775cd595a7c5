//! Local copies of the ONNX files in a bucket.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use common::{atomic_file, digest::Sha256};
use tracing::warn;

use crate::model_store::{StoreError, io_error};

const EXTENSION: &str = "onnx";

/// A temporary file that is older was left by a killed process.
const LONGEST_WRITE: Duration = Duration::from_secs(3600);

/// A folder of files that are named by their digest, with a limit on their size together. Processes may share it.
/// A cache that cannot be written or read is logged, and costs nothing but time.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    max_bytes: u64,
}

/// A file in the folder.
struct Entry {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl Cache {
    /// Creates the folder if necessary.
    pub(super) fn open(folder: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            max_bytes,
        })
    }

    /// The file with this digest. A damaged file counts as missing, and is removed.
    pub(super) fn read(&self, sha256: &Sha256) -> Option<Vec<u8>> {
        let path = self.path(sha256);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), "cannot read the copy of a model: {error}");
                return None;
            }
        };
        if Sha256::of(&bytes) != *sha256 {
            warn!(path = %path.display(), "the copy of a model is damaged; it is removed");
            let _ = fs::remove_file(&path);
            return None;
        }
        // The oldest are removed first. If this fails, this one counts as older than it is.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes)
    }

    /// Stores a file, and removes those that were not used for the longest time as far as the limit requires it.
    pub(super) fn insert(&self, sha256: &Sha256, bytes: &[u8]) {
        let path = self.path(sha256);
        if bytes.len() as u64 > self.max_bytes {
            return;
        }
        let inserted = atomic_file::write(&path, bytes).and_then(|()| self.make_room(&path));
        if let Err(error) = inserted {
            warn!("cannot keep a copy of a model: {error}");
        }
    }

    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries.iter().filter(|entry| entry.path != newest) {
            if bytes <= self.max_bytes {
                break;
            }
            remove(&entry.path)?;
            bytes -= entry.bytes;
        }
        Ok(())
    }

    /// The files of the cache. Removes what killed processes left.
    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Another process removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let used = metadata.modified()?;
            if atomic_file::is_unfinished(&entry.file_name()) {
                if used.elapsed().unwrap_or_default() > LONGEST_WRITE {
                    remove(&path)?;
                }
            } else if path.extension().is_some_and(|found| found == EXTENSION) {
                let bytes = metadata.len();
                entries.push(Entry { used, bytes, path });
            }
        }
        Ok(entries)
    }

    fn path(&self, sha256: &Sha256) -> PathBuf {
        self.folder.join(format!("{sha256}.{EXTENSION}"))
    }
}

/// Removes a file that another process may remove at the same time.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(cache: &Cache, bytes: &[u8]) -> Sha256 {
        let sha256 = Sha256::of(bytes);
        cache.insert(&sha256, bytes);
        sha256
    }

    /// Makes a file look as if it had been used so many hours ago.
    fn age(cache: &Cache, sha256: &Sha256, hours: u64) {
        let file = File::open(cache.path(sha256)).unwrap();
        let used = SystemTime::now() - Duration::from_secs(3600 * hours);
        file.set_modified(used).unwrap();
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache"), 10).unwrap();
        let first = insert(&cache, b"1111");
        let second = insert(&cache, b"2222");
        age(&cache, &first, 3);
        age(&cache, &second, 2);
        // It is used, so the second one is older now.
        assert_eq!(cache.read(&first).unwrap(), b"1111");
        let third = insert(&cache, b"3333");
        assert_eq!(cache.read(&second), None);
        assert_eq!(cache.read(&first).unwrap(), b"1111");
        assert_eq!(cache.read(&third).unwrap(), b"3333");

        let large = insert(&cache, b"larger than all");
        assert_eq!(cache.read(&large), None);
        assert!(cache.read(&first).is_some() && cache.read(&third).is_some());
    }

    #[test]
    fn a_damaged_copy_counts_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 100).unwrap();
        let sha256 = insert(&cache, b"model");
        fs::write(cache.path(&sha256), b"mode1").unwrap();
        assert_eq!(cache.read(&sha256), None);
        assert!(!cache.path(&sha256).exists());
        insert(&cache, b"model");
        assert_eq!(cache.read(&sha256).unwrap(), b"model");
    }

    #[test]
    fn unfinished_files_are_removed_once_they_are_old_and_others_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1).unwrap();
        let names = [".writing-old", ".writing-new", "notes.txt"];
        let [old, new, notes] = names.map(|name| folder.path().join(name));
        for path in [&old, &new, &notes] {
            fs::write(path, "longer than the limit").unwrap();
        }
        let hours_ago = SystemTime::now() - 2 * LONGEST_WRITE;
        let file = File::open(&old).unwrap();
        file.set_modified(hours_ago).unwrap();
        insert(&cache, b"1");
        assert!(!old.exists() && new.exists() && notes.exists());
    }
}
