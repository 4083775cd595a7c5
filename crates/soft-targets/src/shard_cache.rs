//! Copies of the shards of recordings in buckets.
//!
//! ```text
//! <cache>/bucket-<digest of the URL>/<recording>/view-0000/shard-00000.safetensors
//! ```
//!
//! A recording here is a normal recording in a folder, of which some shards are missing. Processes may share the cache.

use std::{
    io,
    path::{Path, PathBuf},
};

use common::digest::Sha256;
use object_storage::{CopyLayout, CopyLimits, LocalCopies};

use crate::{error::StoreError, shard::ShardId};

/// How the names of the folders begin that have the copies of one bucket.
const BUCKET: &str = "bucket-";

/// The part of the limit that is written between two looks at the whole cache.
const PARTS: u64 = 16;

const LAYOUT: CopyLayout = CopyLayout {
    folders: &[is_bucket, is_recording, is_view],
    is_copy: is_shard,
};

/// A folder of copies with a limit on their size together. What a run has mapped into memory stays valid after its copy
/// was removed, and takes its space until it is unmapped.
#[derive(Debug)]
pub(crate) struct ShardCache(LocalCopies);

impl ShardCache {
    /// Creates the folder if necessary.
    ///
    /// # Errors
    /// [`StoreError::Cache`].
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        let limits = CopyLimits {
            max_bytes,
            bytes_between_looks: max_bytes / PARTS,
        };
        match LocalCopies::open(folder, LAYOUT, limits) {
            Ok(copies) => Ok(Self(copies)),
            Err(error) => Err(StoreError::Cache {
                folder: folder.to_owned(),
                error,
            }),
        }
    }

    /// The folder for the copies of the recordings at `url`.
    ///
    /// The URL does not name the endpoint, so two stores with a bucket of one name share the folder. That is safe: the
    /// name of a recording has the digest of its identity, and every byte of a copy is verified against that identity,
    /// wherever it came from. A shard of another recording counts as missing, and is downloaded.
    pub fn folder_of(&self, url: &str) -> PathBuf {
        let digest = Sha256::of(url.as_bytes());
        let name = format!("{BUCKET}{:.16}", digest.as_str());
        self.0.folder().join(name)
    }

    /// Stores a copy, and removes those that were not used for the longest time as far as the limit requires it.
    ///
    /// # Errors
    /// I/O errors; the copy may be there.
    pub fn insert(&self, path: &Path, shard: &[u8]) -> io::Result<()> {
        self.0.insert(path, shard)
    }

    /// Notes that a copy was used. If this fails, it counts as older than it is.
    pub fn note_used(&self, path: &Path) {
        self.0.note_used(path);
    }
}

fn is_bucket(name: &str) -> bool {
    name.starts_with(BUCKET)
}

fn is_recording(name: &str) -> bool {
    !name.starts_with('.')
}

fn is_view(name: &str) -> bool {
    name.starts_with("view-")
}

/// Whether the file at `path`, below the cache, has the place of a shard.
fn is_shard(path: &Path) -> bool {
    // The first two folders are those of the bucket and of the recording.
    let in_recording: PathBuf = path.iter().skip(2).collect();
    in_recording.to_str().and_then(ShardId::parse).is_some()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        time::{Duration, SystemTime},
    };

    use common::atomic_file;

    use super::*;

    fn path(cache: &ShardCache, view: u32, shard: u32) -> PathBuf {
        let recording = cache.folder_of("s3://b/a").join("recording");
        recording.join(ShardId { view, shard }.path())
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "taken").unwrap();
        let error = ShardCache::open(&file.join("cache"), 1).unwrap_err();
        let expected = format!("soft_targets.cache: {}/cache: ", file.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn nothing_but_copies_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ShardCache::open(folder.path(), 10).unwrap();
        let copy = path(&cache, 0, 0);
        let view = copy.parent().unwrap();
        let recording = view.parent().unwrap();
        let others = [
            // A recording in a folder.
            folder
                .path()
                .join("recording/view-0000/shard-00000.safetensors"),
            recording.join("recording.json"),
            recording.join("view-1/shard-00000.safetensors"),
            view.join("notes.txt"),
            view.join("shard-1.safetensors"),
        ];
        for path in &others {
            atomic_file::write(path, &[0; 300]).unwrap();
        }
        cache.insert(&copy, &[0; 300]).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let file = File::open(&copy).unwrap();
        file.set_modified(hour_ago).unwrap();
        let newest = path(&cache, 0, 1);
        cache.insert(&newest, &[0; 300]).unwrap();
        assert!(!copy.exists() && newest.exists());
        assert!(others.iter().all(|path| path.exists()), "{others:?}");
    }
}
