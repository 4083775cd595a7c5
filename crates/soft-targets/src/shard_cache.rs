//! Copies of the shards of recordings in buckets.
//!
//! ```text
//! <cache>/bucket-<digest of the URL>/<recording>/view-0000/shard-00000.safetensors
//! ```
//!
//! A recording here is a normal recording in a folder, of which some shards are missing. Processes may share the cache.

use std::{
    fs::{self, DirEntry, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use common::{atomic_file, digest::Sha256};

use crate::{error::StoreError, shard::ShardId};

/// How the names of the folders begin that have the copies of one bucket.
const BUCKET: &str = "bucket-";

/// A temporary file that is older was left by a killed process.
const LONGEST_WRITE: Duration = Duration::from_secs(3600);

/// The part of the limit that is written between two looks at the whole cache, which may have many files.
const PARTS: u64 = 16;

/// A folder of copies with a limit on their size together.
#[derive(Debug)]
pub(crate) struct ShardCache {
    folder: PathBuf,
    max_bytes: u64,
    /// Bytes that this process wrote since it last looked at the whole cache.
    written: Mutex<u64>,
}

/// A copy of a shard.
struct CachedShard {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl ShardCache {
    /// Creates the folder if necessary.
    ///
    /// # Errors
    /// [`StoreError::Cache`].
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        let folder = folder.to_owned();
        if let Err(error) = fs::create_dir_all(&folder) {
            return Err(StoreError::Cache { folder, error });
        }
        Ok(Self {
            folder,
            max_bytes,
            // Earlier processes may have left more than the limit.
            written: Mutex::new(max_bytes),
        })
    }

    /// The folder for the copies of the recordings at `url`.
    pub fn folder_of(&self, url: &str) -> PathBuf {
        let digest = Sha256::of(url.as_bytes());
        self.folder.join(format!("{BUCKET}{:.16}", digest.as_str()))
    }

    /// Stores a copy, and removes those that were not used for the longest time as far as the limit requires it. What
    /// another process or this one has mapped into memory stays valid, and takes its space until it is unmapped.
    ///
    /// # Errors
    /// I/O errors; the copy may be there.
    pub fn insert(&self, path: &Path, shard: &[u8]) -> io::Result<()> {
        atomic_file::write(path, shard)?;
        // No code that can panic runs under the lock.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written = written.saturating_add(shard.len() as u64);
        if *written > self.max_bytes / PARTS {
            let named = |error: io::Error| {
                let folder = self.folder.display();
                io::Error::new(
                    error.kind(),
                    format!("cannot make room in {folder}: {error}"),
                )
            };
            self.make_room(path).map_err(named)?;
            *written = 0;
        }
        Ok(())
    }

    /// Notes that a copy was used. If this fails, it counts as older than it is.
    pub fn note_used(&self, path: &Path) {
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Leaves room for what is written until the next look.
    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let limit = self.max_bytes - self.max_bytes / PARTS;
        let mut copies = self.copies()?;
        copies.sort_by_key(|copy| copy.used);
        let mut bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();
        for copy in copies.iter().filter(|copy| copy.path != newest) {
            if bytes <= limit {
                break;
            }
            remove(&copy.path)?;
            bytes -= copy.bytes;
        }
        Ok(())
    }

    /// All copies. Removes what killed processes left. Leaves out everything that has not the place of a copy.
    fn copies(&self) -> io::Result<Vec<CachedShard>> {
        let mut copies = Vec::new();
        let is_bucket = |name: &str| name.starts_with(BUCKET);
        for bucket in folders(&self.folder, is_bucket)? {
            for recording in folders(&bucket, |name| !name.starts_with('.'))? {
                for view in folders(&recording, |name| name.starts_with("view-"))? {
                    for entry in entries(&view)? {
                        copies.extend(copy(&view, &entry)?);
                    }
                }
            }
        }
        Ok(copies)
    }
}

/// The copy at `entry` of the folder `view`. Removes an old unfinished file.
fn copy(view: &Path, entry: &DirEntry) -> io::Result<Option<CachedShard>> {
    let (name, path) = (entry.file_name(), entry.path());
    let place = Path::new(view.file_name().unwrap_or_default()).join(&name);
    let is_shard = place.to_str().and_then(ShardId::parse).is_some();
    let is_unfinished = atomic_file::is_unfinished(&name);
    if !is_shard && !is_unfinished {
        return Ok(None);
    }
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        // Another process removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let used = metadata.modified()?;
    if is_unfinished {
        if used.elapsed().unwrap_or_default() > LONGEST_WRITE {
            remove(&path)?;
        }
        return Ok(None);
    }
    let bytes = metadata.len();
    Ok(Some(CachedShard { used, bytes, path }))
}

/// The folders in `folder` whose names fit.
fn folders(folder: &Path, fits: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in entries(folder)? {
        let is_folder = entry.file_type()?.is_dir();
        if is_folder && entry.file_name().to_str().is_some_and(&fits) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(folder)?.collect()
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

    const HOUR: Duration = Duration::from_secs(3600);

    fn path(cache: &ShardCache, view: u32, shard: u32) -> PathBuf {
        let recording = cache.folder_of("s3://b/a").join("recording");
        recording.join(ShardId { view, shard }.path())
    }

    /// Makes a file look as if it had been used so long ago.
    fn age(path: &Path, age: Duration) {
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ShardCache::open(&folder.path().join("cache"), 1000).unwrap();
        let copies =
            [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(view, shard)| path(&cache, view, shard));
        let there = || copies.each_ref().map(|path| path.exists());
        for (path, hours) in copies[..3].iter().zip([3u32, 2, 1]) {
            cache.insert(path, &[0; 300]).unwrap();
            age(path, hours * HOUR);
        }
        assert_eq!(there(), [true, true, true, false]);
        // It is used, so the second one is older now.
        cache.note_used(&copies[0]);
        cache.insert(&copies[3], &[0; 300]).unwrap();
        assert_eq!(there(), [true, false, true, true]);

        // A copy that is larger than all stays until the next one.
        cache.insert(&copies[1], &[0; 2000]).unwrap();
        assert_eq!(there(), [false, true, false, false]);
        cache.insert(&copies[0], &[0; 300]).unwrap();
        assert_eq!(there(), [true, false, false, false]);
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
    fn an_earlier_process_may_have_had_a_larger_limit() {
        let folder = tempfile::tempdir().unwrap();
        let before = ShardCache::open(folder.path(), 1 << 20).unwrap();
        let [old, new] = [0, 1].map(|shard| path(&before, 0, shard));
        before.insert(&old, &[0; 300]).unwrap();
        let cache = ShardCache::open(folder.path(), 200).unwrap();
        cache.insert(&new, &[0; 1]).unwrap();
        assert!(!old.exists() && new.exists());
    }

    #[test]
    fn nothing_but_copies_and_old_unfinished_files_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ShardCache::open(folder.path(), 10).unwrap();
        let copy = path(&cache, 0, 0);
        let view = copy.parent().unwrap();
        let others = [
            // A recording in a folder.
            folder
                .path()
                .join("recording/view-0000/shard-00000.safetensors"),
            cache.folder_of("s3://b/a").join("recording/recording.json"),
            view.join("notes.txt"),
            view.join(".writing-new"),
        ];
        for path in &others {
            atomic_file::write(path, &[0; 300]).unwrap();
        }
        let unfinished = view.join(".writing-old");
        fs::write(&unfinished, "half a shard").unwrap();
        age(&unfinished, 2 * HOUR);
        cache.insert(&copy, &[0; 300]).unwrap();
        cache.insert(&path(&cache, 0, 1), &[0; 300]).unwrap();
        assert!(!copy.exists() && !unfinished.exists());
        assert!(others.iter().all(|path| path.exists()), "{others:?}");
    }
}
