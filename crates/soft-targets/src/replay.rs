//! Recorded soft targets as training reads them.

use std::sync::OnceLock;

use crate::SoftTargets;

use crate::{Recording, ShardFault, ShardId, StoreError};

/// Views of a recording, mapped into memory: the rows of any samples, at the cost of copying them.
#[derive(Debug)]
pub struct Replay {
    recording: Recording,
    /// The shards of each view, once it is opened.
    views: Vec<OnceLock<Vec<SoftTargets>>>,
}

impl Replay {
    /// The first `views` views of `recording`, none of them opened yet.
    pub fn new(recording: Recording, views: u32) -> Self {
        Self {
            recording,
            views: (0..views).map(|_| OnceLock::new()).collect(),
        }
    }

    /// What is replayed.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Opens these views, checking every byte of them. The others are opened where some cannot be used.
    ///
    /// # Errors
    /// [`StoreError::Faulty`] with all shards that cannot be used.
    ///
    /// # Panics
    /// Where there is no such view.
    pub fn open_all(&self, views: impl IntoIterator<Item = u32>) -> Result<(), StoreError> {
        let mut faults = Vec::new();
        for view in views {
            if let Err(StoreError::Faulty { faults: found, .. }) = self.open(view) {
                faults.extend(found);
            }
        }
        self.refuse(faults)
    }

    /// Opens one view, checking every byte of it.
    ///
    /// # Errors
    /// [`StoreError::Faulty`].
    ///
    /// # Panics
    /// Where there is no such view.
    pub fn open(&self, view: u32) -> Result<(), StoreError> {
        if self.is_open(view) {
            return Ok(());
        }
        let (mut shards, mut faults) = (Vec::new(), Vec::new());
        for shard in 0..self.recording.shards_per_view() {
            let id = ShardId { view, shard };
            match self.recording.read(id) {
                Ok(targets) => shards.push(targets),
                Err(fault) => faults.push(ShardFault { id, fault }),
            }
        }
        self.refuse(faults)?;
        // Another thread may have been faster, with the same shards.
        let _ = self.views[view as usize].set(shards);
        Ok(())
    }

    /// Whether the view was opened.
    ///
    /// # Panics
    /// Where there is no such view.
    pub fn is_open(&self, view: u32) -> bool {
        self.views[view as usize].get().is_some()
    }

    /// The soft targets of `samples`, positions in the data set, in `view`. They are copied once, row
    /// by row, into new buffers.
    ///
    /// # Panics
    /// Where the view is not opened or there is no such sample.
    pub fn gather(&self, view: u32, samples: &[u32]) -> SoftTargets {
        let shards = self.views[view as usize].get();
        let shards = shards.expect("the view was opened before it is read");
        let size = self.recording.samples_per_shard();
        let row = |sample: &u32| (&shards[(sample / size) as usize], (sample % size) as usize);
        SoftTargets::gather(&shards[0], samples.iter().map(row))
    }

    fn refuse(&self, faults: Vec<ShardFault>) -> Result<(), StoreError> {
        match faults.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Faulty {
                folder: self.recording.folder().to_owned(),
                faults,
            }),
        }
    }
}
