//! Local copies of the ONNX files in a bucket.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use common::digest::Sha256;
use object_storage::{CopyLayout, CopyLimits, LocalCopies};
use tracing::warn;

use crate::model_store::{StoreError, io_error};

const EXTENSION: &str = "onnx";

const LAYOUT: CopyLayout = CopyLayout {
    folders: &[],
    is_copy: is_model,
};

/// A folder of files that are named by their digest, with a limit on their size together. Processes may share it.
/// A cache that cannot be written or read is logged, and costs nothing but time.
#[derive(Debug)]
pub(super) struct Cache {
    copies: LocalCopies,
    max_bytes: u64,
}

impl Cache {
    /// Creates the folder if necessary.
    pub(super) fn open(folder: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        let limits = CopyLimits {
            max_bytes,
            // There are few models, and each may have a large part of the limit.
            bytes_between_looks: 0,
        };
        let copies = LocalCopies::open(folder, LAYOUT, limits).map_err(io_error(folder))?;
        Ok(Self { copies, max_bytes })
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
        self.copies.note_used(&path);
        Some(bytes)
    }

    /// Stores a file, and removes those that were not used for the longest time as far as the limit requires it.
    pub(super) fn insert(&self, sha256: &Sha256, bytes: &[u8]) {
        if bytes.len() as u64 > self.max_bytes {
            return;
        }
        if let Err(error) = self.copies.insert(&self.path(sha256), bytes) {
            warn!("cannot keep a copy of a model: {error}");
        }
    }

    fn path(&self, sha256: &Sha256) -> PathBuf {
        self.copies.folder().join(format!("{sha256}.{EXTENSION}"))
    }
}

fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|found| found == EXTENSION)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        time::{Duration, SystemTime},
    };

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
    fn nothing_but_models_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1).unwrap();
        let notes = folder.path().join("notes.txt");
        fs::write(&notes, "longer than the limit").unwrap();
        let old = insert(&cache, b"1");
        age(&cache, &old, 1);
        let new = insert(&cache, b"2");
        assert!(!cache.path(&old).exists() && cache.path(&new).exists());
        assert!(notes.exists());
    }
}
