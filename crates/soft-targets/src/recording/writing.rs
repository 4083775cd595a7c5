//! Writes shards: the first process that records a shard gives it its name, the others compare the bytes.

use std::io;

use bytes::Bytes;
use common::atomic_file;

use super::Recording;
use crate::{
    codec::SoftTargets,
    error::StoreError,
    mapping,
    recording_lock::RecordingLock,
    remote::RemoteRecording,
    shard::{Fault, ShardId, ShardLayout},
};

/// Attempts to create a shard in a bucket that other processes create or remove at the same time.
const ATTEMPTS: usize = 10;

/// Who recorded a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// This process.
    Here,
    /// Another process, with the same bytes.
    Elsewhere,
}

impl Recording {
    /// Writes a shard atomically, unless another process wrote the same. Replaces a damaged one.
    ///
    /// # Errors
    /// [`StoreError::OtherTargets`] if the shard is there with other bytes; I/O errors; [`StoreError::Unavailable`],
    /// [`StoreError::Stopped`].
    ///
    /// # Panics
    /// If `targets` do not have as many samples as the shard.
    pub fn write(
        &self,
        id: ShardId,
        targets: &SoftTargets,
        _lock: &RecordingLock,
    ) -> Result<Written, StoreError> {
        let layout = self.layout(id);
        assert_eq!(targets.samples(), layout.samples.len());
        let bytes = Bytes::from(layout.write(targets));
        if let Some(remote) = &self.remote {
            let written = self.write_object(remote, &layout, &bytes)?;
            // The copy saves a download. A reader that needs it reports what is wrong with the disk.
            let _ = remote.keep(id, &bytes);
            return Ok(written);
        }
        let path = self.folder.join(id.path());
        match atomic_file::write_new(&path, &bytes) {
            Ok(()) => return Ok(Written::Here),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io(path)(error)),
        }
        // A damaged one or, if it cannot be read, as far as possible, is replaced.
        if let Ok(there) = mapping::map(&path)
            && self.is_same(&layout, &there, &bytes)?
        {
            return Ok(Written::Elsewhere);
        }
        atomic_file::write(&path, &bytes).map_err(StoreError::io(path))?;
        Ok(Written::Here)
    }

    fn write_object(
        &self,
        remote: &RemoteRecording,
        layout: &ShardLayout<'_>,
        bytes: &Bytes,
    ) -> Result<Written, StoreError> {
        let id = layout.id;
        for _ in 0..ATTEMPTS {
            if remote.create(id, bytes)? {
                return Ok(Written::Here);
            }
            match remote.download(id, bytes.len() as u64) {
                // Another process is about to create it, or has just removed it.
                Err(Fault::Missing) => {}
                Err(Fault::Unavailable(problem)) => {
                    return Err(StoreError::Unavailable { problem });
                }
                Err(Fault::Stopped) => return Err(StoreError::Stopped),
                Ok(there) if self.is_same(layout, &there, bytes)? => return Ok(Written::Elsewhere),
                // It is damaged.
                Ok(_) | Err(_) => {
                    remote.replace(id, bytes)?;
                    return Ok(Written::Here);
                }
            }
        }
        let shard = format!("{}/{id}", remote.url().display());
        let problem = format!("{shard}: the bucket neither creates it nor has it; try again");
        Err(StoreError::Unavailable { problem })
    }

    /// Whether a shard that is `there` is the one to write; `false` if it is damaged.
    ///
    /// # Errors
    /// [`StoreError::OtherTargets`].
    fn is_same(
        &self,
        layout: &ShardLayout<'_>,
        there: &Bytes,
        bytes: &Bytes,
    ) -> Result<bool, StoreError> {
        if there != bytes && layout.read(there).is_ok() {
            return Err(StoreError::OtherTargets {
                folder: self.place().to_owned(),
                shard: layout.id,
            });
        }
        Ok(there == bytes)
    }
}
