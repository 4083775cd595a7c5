//! Where recordings are: in a folder, or in a bucket.

use std::{path::PathBuf, sync::Arc, time::Duration};

use common::atomic_file;
use object_storage::{Bucket, Location};
use object_store::path::Path as ObjectPath;
use tokio_util::sync::CancellationToken;

use crate::{
    description::{DESCRIPTION, Description},
    error::StoreError,
    identity::RecordingIdentity,
    recording::Recording,
    recordings::Recordings,
    remote::RemoteRecording,
    shard_cache::ShardCache,
};

/// Where recordings are.
///
/// Methods block while they wait for the disk or the network. Those of a bucket, and of recordings in it, must not be
/// called on a thread of an async runtime.
#[derive(Debug)]
pub enum RecordingStore {
    /// A folder.
    Folder(PathBuf),
    /// A bucket.
    Bucket(RecordingBucket),
}

/// How a process uses recordings in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketOptions {
    /// Folder for copies of the shards.
    pub cache: PathBuf,
    /// Limit of the copies together, bytes. Those that were not used for the longest time are removed first.
    pub max_cache_bytes: u64,
    /// How long a request is repeated if it fails, or waits for an answer.
    pub patience: Duration,
}

/// The recordings below a prefix of a bucket. Any number of processes read and write them.
#[derive(Debug)]
pub struct RecordingBucket {
    bucket: Arc<Bucket>,
    cache: Arc<ShardCache>,
    url: PathBuf,
    /// The folder of the copies.
    copies: PathBuf,
}

impl RecordingStore {
    /// The recordings at `location`. Sends no request yet. Cancelling `stop` ends the requests to a bucket at once,
    /// with [`StoreError::Stopped`].
    ///
    /// # Errors
    /// If the environment has no valid credentials for the bucket, or the folder of the copies cannot be made.
    pub fn open(
        location: &Location,
        options: &BucketOptions,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        match location {
            Location::Folder(folder) => Ok(Self::Folder(folder.clone())),
            Location::Bucket(location) => {
                let bucket = Bucket::open(location, options.patience)?;
                Self::in_bucket(bucket.stopped_by(stop.clone()), options)
            }
        }
    }

    /// The recordings in `bucket`, which is used with `options` except for their patience.
    ///
    /// # Errors
    /// If the folder of the copies cannot be made.
    pub fn in_bucket(bucket: Bucket, options: &BucketOptions) -> Result<Self, StoreError> {
        let url = bucket.url(&ObjectPath::default());
        let cache = ShardCache::open(&options.cache, options.max_cache_bytes)?;
        Ok(Self::Bucket(RecordingBucket {
            bucket: Arc::new(bucket),
            copies: cache.folder_of(&url),
            cache: Arc::new(cache),
            url: url.into(),
        }))
    }

    /// All recordings. If the bucket does not answer, those with a copy.
    ///
    /// # Errors
    /// If the folder cannot be read, or the bucket does not answer and there is no copy; [`StoreError::Stopped`].
    pub fn list(&self) -> Result<Recordings, StoreError> {
        match self {
            Self::Folder(folder) => Recordings::list(folder),
            Self::Bucket(bucket) => bucket.list(),
        }
    }

    /// Opens the recording of `identity`, or creates it: see [`Recording::open_or_create`].
    ///
    /// # Errors
    /// Those of [`Recording::open_or_create`]; [`StoreError::Unavailable`], [`StoreError::Stopped`].
    pub fn open_or_create(
        &self,
        identity: &RecordingIdentity,
        samples_per_shard: u32,
        class_names: &[String],
    ) -> Result<Recording, StoreError> {
        match self {
            Self::Folder(folder) => {
                Recording::open_or_create(folder, identity, samples_per_shard, class_names)
            }
            Self::Bucket(bucket) => bucket.open_or_create(identity, samples_per_shard, class_names),
        }
    }
}

impl RecordingBucket {
    fn list(&self) -> Result<Recordings, StoreError> {
        let mut folders = match self.bucket.folders(&ObjectPath::default()) {
            Ok(folders) => folders,
            Err(error) if error.is_stopped() => return Err(StoreError::Stopped),
            Err(error) => return self.list_copies(error.into()),
        };
        folders.sort();
        let mut found = Recordings::none(&self.url);
        for folder in folders {
            if folder.filename().is_none_or(|name| name.starts_with('.')) {
                continue;
            }
            match self.open(folder) {
                Ok(recording) => found.usable.extend(recording),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => found.damaged.push(error),
            }
        }
        Ok(found)
    }

    /// The recordings with a copy, and among the damaged ones the `error` that hides the others.
    fn list_copies(&self, error: StoreError) -> Result<Recordings, StoreError> {
        let copies = Recordings::list(&self.copies)?;
        if copies.usable.is_empty() {
            return Err(error);
        }
        let in_bucket = |copy: Recording| {
            let remote = self.remote(ObjectPath::from(copy.name()));
            copy.in_bucket(remote)
        };
        let mut found = Recordings::none(&self.url);
        found.usable = copies.usable.into_iter().map(in_bucket).collect();
        found.damaged = copies.damaged;
        let problem = format!("{error}; only recordings with copies on this machine are used");
        found.damaged.push(StoreError::Unavailable { problem });
        Ok(found)
    }

    fn open_or_create(
        &self,
        identity: &RecordingIdentity,
        samples_per_shard: u32,
        class_names: &[String],
    ) -> Result<Recording, StoreError> {
        let folder = ObjectPath::from(identity.folder_name());
        if let Some(recording) = self.open(folder.clone())? {
            return recording.checked(identity);
        }
        let remote = self.remote(folder.clone());
        let url = || remote.url().to_owned();
        let described = Description::new(identity, samples_per_shard, class_names);
        let description = described.map_err(|problem| StoreError::TooLarge {
            folder: url(),
            problem,
        })?;
        remote.create_description(description.to_json())?;
        match self.open(folder)? {
            Some(recording) => recording.checked(identity),
            None => Err(StoreError::NoRecording {
                folder: url(),
                problem: format!("{DESCRIPTION} was removed right after it was written"),
            }),
        }
    }

    /// The recording in a folder of the bucket, if there is one.
    fn open(&self, folder: ObjectPath) -> Result<Option<Recording>, StoreError> {
        let remote = self.remote(folder);
        let Some(json) = remote.description()? else {
            return Ok(None);
        };
        let recording = Recording::from_json(&json, remote.url())?;
        // For runs while the bucket does not answer. What prevents it, the copies of the shards will report.
        let copy = remote.folder().join(DESCRIPTION);
        if std::fs::read(&copy).ok().is_none_or(|copy| copy != *json) {
            let _ = atomic_file::write(&copy, &json);
        }
        Ok(Some(recording.in_bucket(remote)))
    }

    fn remote(&self, folder: ObjectPath) -> RemoteRecording {
        RemoteRecording::new(&self.bucket, &self.cache, folder, &self.copies)
    }
}
