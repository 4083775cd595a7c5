//! What processes that train together can do.

use std::fmt;

/// The workers of a run: processes that call the same methods in the same order. Their ranks count from 0.
pub trait Workers: fmt::Debug + Sync {
    /// The rank of this process.
    fn rank(&self) -> usize;

    /// Number of workers, 1 or more.
    fn count(&self) -> usize;

    /// The numbers of all workers, in the order of their ranks. `own` must have the same length in all of them.
    ///
    /// # Errors
    /// If a worker is lost, or does not call this method in time.
    fn gather(&self, own: &[f32]) -> Result<Vec<f32>, LostWorker>;

    /// The bytes of each worker, in the order of their ranks.
    ///
    /// # Errors
    /// If a worker is lost, or does not call this method in time.
    fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, LostWorker>;

    /// The bytes of the worker with rank 0.
    ///
    /// # Errors
    /// If a worker is lost, or does not call this method in time.
    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, LostWorker>;
}

/// Why workers cannot continue together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "worker {rank} of {count} lost contact with the others ({problem}); their messages say why. Start all workers again: \
     they go on from the last checkpoint"
)]
pub struct LostWorker {
    /// The rank of this process.
    pub rank: usize,
    /// Number of workers.
    pub count: usize,
    /// The reason that c10d gives.
    pub problem: String,
}
