//! Which batches a worker loads.

use torch_distributed::Workers;

/// The batches of one of several workers: each has every batch whose position in its epoch leaves the worker's rank when
/// divided by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShare {
    /// The rank of the worker.
    pub worker: usize,
    /// Number of workers.
    pub workers: usize,
}

impl BatchShare {
    /// The share of this process.
    pub fn of(workers: &dyn Workers) -> Self {
        Self {
            worker: workers.rank(),
            workers: workers.count(),
        }
    }

    /// Whether the share has the batch at `position` of an epoch.
    pub fn has(self, position: usize) -> bool {
        position % self.workers == self.worker
    }
}

impl Default for BatchShare {
    /// All batches.
    fn default() -> Self {
        Self {
            worker: 0,
            workers: 1,
        }
    }
}
