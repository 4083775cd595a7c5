//! Reads recorded soft targets for training.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::{
    codec::SoftTargets,
    error::StoreError,
    recording::Recording,
    shard::{Fault, ShardFault, ShardId},
};

/// Views of a recording, mapped into memory. Reading rows copies them once.
#[derive(Debug)]
pub struct Replay {
    recording: Recording,
    /// The shards of each opened view.
    views: Vec<OnceLock<Vec<SoftTargets>>>,
    stop: CancellationToken,
}

impl Replay {
    /// The first `views` views of `recording`, not opened yet.
    pub fn new(recording: Recording, views: u32) -> Self {
        Self {
            recording,
            views: (0..views).map(|_| OnceLock::new()).collect(),
            stop: CancellationToken::new(),
        }
    }

    /// The same views. Cancelling `stop` ends the opening of a view between two shards, with [`StoreError::Stopped`]:
    /// all shards together may take hours to download and verify. A download ends at once if the store has the token
    /// too; see [`RecordingStore::open`](crate::RecordingStore::open).
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Opens these views and verifies every byte of them. Opens the others even if some cannot be used.
    ///
    /// # Errors
    /// [`StoreError::Faulty`] with all shards that cannot be used; at once, [`StoreError::Unavailable`],
    /// [`StoreError::DamagedObject`] and [`StoreError::Stopped`].
    ///
    /// # Panics
    /// If the view does not exist.
    pub fn open_all(&self, views: impl IntoIterator<Item = u32>) -> Result<(), StoreError> {
        let mut faults = Vec::new();
        for view in views {
            match self.open(view) {
                Err(StoreError::Faulty { faults: found, .. }) => faults.extend(found),
                opened => opened?,
            }
        }
        self.reject(faults)
    }

    /// Opens one view and verifies every byte of it.
    ///
    /// # Errors
    /// [`StoreError::Faulty`], [`StoreError::Unavailable`], [`StoreError::DamagedObject`], [`StoreError::Stopped`].
    ///
    /// # Panics
    /// If the view does not exist.
    pub fn open(&self, view: u32) -> Result<(), StoreError> {
        if self.is_open(view) {
            return Ok(());
        }
        let (mut shards, mut faults) = (Vec::new(), Vec::new());
        for shard in 0..self.recording.shards_per_view() {
            if self.stop.is_cancelled() {
                return Err(StoreError::Stopped);
            }
            let id = ShardId { view, shard };
            match self.recording.read(id) {
                Ok(targets) => shards.push(targets),
                Err(fault) => {
                    let is_last = matches!(fault, Fault::Unavailable(_) | Fault::Stopped);
                    faults.push(ShardFault { id, fault });
                    // The bucket would let the process wait for every shard.
                    if is_last {
                        break;
                    }
                }
            }
        }
        self.reject(faults)?;
        // Another thread may have stored the same shards first.
        let _ = self.views[view as usize].set(shards);
        Ok(())
    }

    /// Whether the view was opened.
    ///
    /// # Panics
    /// If the view does not exist.
    pub fn is_open(&self, view: u32) -> bool {
        self.views[view as usize].get().is_some()
    }

    /// Copies the soft targets of `samples`, positions in the data set, in `view`.
    ///
    /// # Panics
    /// If the view is not open or a sample does not exist.
    pub fn gather(&self, view: u32, samples: &[u32]) -> SoftTargets {
        let shards = self.views[view as usize].get();
        let shards = shards.expect("the view was opened before it is read");
        let size = self.recording.samples_per_shard();
        let row = |sample: &u32| (&shards[(sample / size) as usize], (sample % size) as usize);
        SoftTargets::gather(&shards[0], samples.iter().map(row))
    }

    fn reject(&self, faults: Vec<ShardFault>) -> Result<(), StoreError> {
        self.recording.rejection(faults).map_or(Ok(()), Err)
    }
}
