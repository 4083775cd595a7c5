//! The shards of a recording that several workers record at the same time.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use soft_targets::ShardId;

/// The file that makes a folder a recording.
const DESCRIPTION: &str = "recording.json";

/// Counts the complete shards of each worker without reading them. A worker records its shards in their order, and a
/// file has its name once it is complete.
pub(super) struct Shards {
    /// Folder of one recording, or of its copies.
    store: PathBuf,
    /// Folder of the recording, once it is there.
    recording: Option<PathBuf>,
    per_view: u64,
    /// By worker, the number of its first shard that was not complete.
    next: Vec<u64>,
}

impl Shards {
    /// The shards of the recording that `workers` workers are about to create in `store`.
    pub(super) fn new(store: &Path, per_view: u64, workers: usize) -> Self {
        Self {
            store: store.to_owned(),
            recording: None,
            per_view,
            next: (0..workers as u64).collect(),
        }
    }

    /// The number of complete shards of each worker.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub(super) fn complete(&mut self) -> io::Result<Vec<u64>> {
        if self.recording.is_none() {
            self.recording = recording(&self.store)?;
        }
        let workers = self.next.len() as u64;
        if let Some(recording) = &self.recording {
            for next in &mut self.next {
                while recording.join(path(*next, self.per_view)).exists() {
                    *next += workers;
                }
            }
        }
        // Worker w has the shards w, w + workers, …
        Ok(self.next.iter().map(|next| next / workers).collect())
    }
}

/// The folder of the recording in `store`, or one level below: there are the copies of a bucket.
fn recording(store: &Path) -> io::Result<Option<PathBuf>> {
    let mut found = folders(store)?;
    for bucket in found.clone() {
        found.extend(folders(&bucket)?);
    }
    let mut found = found.into_iter();
    Ok(found.find(|folder| folder.join(DESCRIPTION).exists()))
}

/// The folders in `folder`.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        // The first worker creates it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// Path of a shard below its recording's folder. Shards are numbered view by view.
fn path(number: u64, per_view: u64) -> PathBuf {
    let id = ShardId {
        view: (number / per_view) as u32,
        shard: (number % per_view) as u32,
    };
    id.path()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_every_nth_shard() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("targets");
        // Three shards a view.
        let mut shards = Shards::new(&store, 3, 2);
        assert_eq!(shards.complete().unwrap(), [0, 0]);
        let recording = store.join("teacher-f32-1");
        fs::create_dir_all(recording.join("view-0000")).unwrap();
        fs::create_dir_all(recording.join("view-0001")).unwrap();
        fs::write(recording.join(DESCRIPTION), "{}").unwrap();
        let mut record = |view: u32, shard: u32| {
            fs::write(recording.join(ShardId { view, shard }.path()), "").unwrap();
            shards.complete().unwrap()
        };
        // The numbers 0, 3, 2 and 4: worker 0 has the even ones.
        assert_eq!(record(0, 0), [1, 0]);
        assert_eq!(record(1, 0), [1, 0]);
        assert_eq!(record(0, 2), [2, 0]);
        assert_eq!(record(1, 1), [3, 0]);
        // With the number 1, worker 1 also has 3.
        assert_eq!(record(0, 1), [3, 2]);
    }

    #[test]
    fn copies_of_a_bucket_count() {
        let cache = tempfile::tempdir().unwrap();
        let recording = cache.path().join("bucket-01").join("teacher-f32-1");
        let mut shards = Shards::new(cache.path(), 3, 1);
        fs::create_dir_all(recording.join("view-0000")).unwrap();
        fs::write(cache.path().join("file"), "").unwrap();
        let shard = recording.join(ShardId { view: 0, shard: 0 }.path());
        fs::write(shard, "").unwrap();
        assert_eq!(shards.complete().unwrap(), [0]);
        fs::write(recording.join(DESCRIPTION), "{}").unwrap();
        assert_eq!(shards.complete().unwrap(), [1]);
    }
}
