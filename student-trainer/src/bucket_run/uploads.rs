//! Copies states of a run to its bucket, and removes the objects that no longer belong to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    sync::Arc,
};

use common::digest::Sha256;
use object_storage::Bucket;
use tracing::warn;

use super::{
    error::BucketRunError,
    lease::Lease,
    record::{self, RunRecord, StoredFile},
    snapshot::{FileState, Snapshot, SnapshotFile},
};

/// Copies states of a run to its bucket.
#[derive(Debug)]
pub(super) struct Uploads {
    bucket: Arc<Bucket>,
    lease: Arc<Lease>,
    contents: Contents,
    /// The digests of the files of the last states.
    digests: BTreeMap<String, (FileState, Sha256)>,
}

/// The contents in a bucket.
#[derive(Debug)]
pub(super) struct Contents {
    /// Those that the bucket has.
    present: BTreeSet<Sha256>,
    /// Those that the bucket may still have and that no longer belong to the run.
    garbage: BTreeSet<Sha256>,
}

impl Uploads {
    /// Copies states to `bucket`, which has these contents.
    pub(super) fn new(bucket: &Arc<Bucket>, lease: &Arc<Lease>, contents: Contents) -> Self {
        Self {
            bucket: Arc::clone(bucket),
            lease: Arc::clone(lease),
            contents,
            digests: BTreeMap::new(),
        }
    }

    /// Uploads the files of `snapshot` that the bucket lacks, then commits all of them. Calls `advanced` after each upload.
    ///
    /// # Errors
    /// [`BucketRunError::LostLease`]; those of the bucket; I/O errors. The bucket has the state of before, or the new one.
    pub(super) fn save(
        &mut self,
        snapshot: &Snapshot,
        advanced: impl Fn(),
    ) -> Result<(), BucketRunError> {
        let mut files = BTreeMap::new();
        for file in &snapshot.files {
            let sha256 = self.digest(file)?;
            if !self.contents.present.contains(&sha256) {
                self.bucket
                    .upload(&record::object(&sha256), &file.read()?)?;
                self.contents.add(&sha256);
                advanced();
            }
            let bytes = file.state.length;
            files.insert(file.path.clone(), StoredFile { sha256, bytes });
        }
        self.digests.retain(|path, _| files.contains_key(path));
        if self.lease.record().files != files {
            self.lease.commit(&files)?;
            let record = self.lease.record();
            self.contents.remove_garbage(&self.bucket, &record);
        }
        Ok(())
    }

    /// The digest of a file, which is read only if it is not that of an earlier state.
    fn digest(&mut self, file: &SnapshotFile) -> io::Result<Sha256> {
        if let Some((state, sha256)) = self.digests.get(&file.path)
            && *state == file.state
        {
            return Ok(sha256.clone());
        }
        let sha256 = Sha256::of(&file.read()?);
        let digest = (file.state, sha256.clone());
        self.digests.insert(file.path.clone(), digest);
        Ok(sha256)
    }
}

impl Contents {
    /// Finds the contents that `bucket` has, and removes those of interrupted uploads.
    ///
    /// # Errors
    /// [`BucketRunError::LostLease`]; those of the bucket.
    pub(super) fn find(bucket: &Bucket, lease: &Lease) -> Result<Self, BucketRunError> {
        let listed = bucket.list(&record::objects())?;
        // If another process has taken the lease over, what is listed may be its state of the run.
        lease.renew()?;
        let mut contents = Self {
            present: listed
                .iter()
                .filter_map(|object| record::content(&object.location))
                .collect(),
            garbage: BTreeSet::new(),
        };
        contents.remove_garbage(bucket, &lease.record());
        Ok(contents)
    }

    /// The bucket has `content` now.
    fn add(&mut self, content: &Sha256) {
        self.garbage.remove(content);
        self.present.insert(content.clone());
    }

    /// Removes the contents that neither the newest generation of `record` nor the one before has.
    fn remove_garbage(&mut self, bucket: &Bucket, record: &RunRecord) {
        let present = mem::take(&mut self.present).into_iter();
        let (named, others): (BTreeSet<_>, BTreeSet<_>) = present.partition(|it| record.names(it));
        self.present = named;
        self.garbage.extend(others);
        while let Some(content) = self.garbage.first() {
            // It only takes space, and the next commit or the next process tries again.
            if let Err(error) = bucket.remove(&record::object(content)) {
                warn!(%error, "cannot remove an old file from the bucket");
                return;
            }
            self.garbage.pop_first();
        }
    }
}
