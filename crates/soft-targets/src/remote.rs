//! The objects of one recording in a bucket, and their copies on this machine.
//!
//! The objects have the names of the files in a folder. `recording.json` and each shard are created only if they are
//! absent, so the first process that records a shard gives it its name, as in a folder; no lock is needed.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use object_storage::Bucket;
use object_store::{PutMode, path::Path as ObjectPath};

use crate::{
    description::DESCRIPTION,
    error::StoreError,
    shard::{Fault, ShardId},
    shard_cache::ShardCache,
};

/// A recording in a bucket.
#[derive(Debug, Clone)]
pub(crate) struct RemoteRecording {
    bucket: Arc<Bucket>,
    cache: Arc<ShardCache>,
    /// The folder of its objects in the bucket.
    path: ObjectPath,
    url: PathBuf,
    /// The folder of its copies.
    folder: PathBuf,
}

impl RemoteRecording {
    /// The recording in the folder `path` of the bucket. `copies` has the copies of the bucket's recordings.
    pub fn new(
        bucket: &Arc<Bucket>,
        cache: &Arc<ShardCache>,
        path: ObjectPath,
        copies: &Path,
    ) -> Self {
        let name: &str = path.as_ref();
        Self {
            bucket: Arc::clone(bucket),
            cache: Arc::clone(cache),
            url: bucket.url(&path).into(),
            folder: copies.join(name),
            path,
        }
    }

    /// Its URL, for messages.
    pub fn url(&self) -> &Path {
        &self.url
    }

    /// The folder of its copies, in the layout of a recording in a folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The content of `recording.json`, if it exists.
    pub fn description(&self) -> Result<Option<Bytes>, StoreError> {
        let found = self.bucket.read(&self.description_path())?;
        Ok(found.map(|found| found.bytes))
    }

    /// Creates `recording.json`, unless it exists.
    pub fn create_description(&self, json: Vec<u8>) -> Result<(), StoreError> {
        self.put_new(&self.description_path(), &json.into())?;
        Ok(())
    }

    /// The sizes of all its shards, bytes.
    pub fn sizes(&self) -> Result<BTreeMap<ShardId, u64>, StoreError> {
        let objects = self.bucket.list(&self.path)?.into_iter();
        let folder: &str = self.path.as_ref();
        let sizes = objects.filter_map(|object| {
            let name: &str = object.location.as_ref();
            let id = ShardId::parse(name.strip_prefix(folder)?.strip_prefix('/')?)?;
            Some((id, object.size))
        });
        Ok(sizes.collect())
    }

    /// The size of a shard in bytes, if it exists.
    pub fn size(&self, id: ShardId) -> Result<Option<u64>, StoreError> {
        Ok(self.bucket.size(&self.shard_path(id))?)
    }

    /// A shard of `size` bytes, not verified.
    ///
    /// # Errors
    /// [`Fault::Missing`], [`Fault::Unavailable`], [`Fault::Stopped`]; [`Fault::Length`] if it is larger.
    pub fn download(&self, id: ShardId, size: u64) -> Result<Bytes, Fault> {
        let downloaded = self.bucket.download(&self.shard_path(id), size);
        downloaded.map_err(|error| match error.larger() {
            _ if error.is_missing() => Fault::Missing,
            _ if error.is_stopped() => Fault::Stopped,
            Some(found) => Fault::Length {
                found,
                expected: size,
            },
            None => Fault::Unavailable(error.to_string()),
        })
    }

    /// Creates a shard; returns `false` if it exists.
    pub fn create(&self, id: ShardId, shard: &Bytes) -> Result<bool, StoreError> {
        self.put_new(&self.shard_path(id), shard)
    }

    /// Replaces a damaged shard.
    pub fn replace(&self, id: ShardId, shard: &Bytes) -> Result<(), StoreError> {
        let path = self.shard_path(id);
        self.bucket.put(&path, shard.clone(), PutMode::Overwrite)?;
        Ok(())
    }

    /// Keeps a copy of a verified shard in the folder.
    pub fn keep(&self, id: ShardId, shard: &[u8]) -> io::Result<()> {
        self.cache.insert(&self.folder.join(id.path()), shard)
    }

    /// Notes that a copy was used.
    pub fn note_used(&self, id: ShardId) {
        self.cache.note_used(&self.folder.join(id.path()));
    }

    /// Creates an object; returns `false` if it exists.
    fn put_new(&self, path: &ObjectPath, content: &Bytes) -> Result<bool, StoreError> {
        let put = || self.bucket.put(path, content.clone(), PutMode::Create);
        // The client does not repeat a request that the bucket may have received. The condition makes that safe.
        Ok(put().or_else(|_| put())?)
    }

    fn description_path(&self) -> ObjectPath {
        self.path.clone().join(DESCRIPTION)
    }

    fn shard_path(&self, id: ShardId) -> ObjectPath {
        format!("{}/{id}", self.path).into()
    }
}
