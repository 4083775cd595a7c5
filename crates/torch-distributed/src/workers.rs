//! What processes that train together can do.

use std::fmt;

use tch::Tensor;

/// The workers of a run: processes that call the same methods in the same order. Their ranks count from 0.
pub trait Workers: fmt::Debug + Sync {
    /// The rank of this process.
    fn rank(&self) -> usize;

    /// Number of workers, 1 or more.
    fn count(&self) -> usize;

    /// Position among the workers of this machine, from 0, if the launcher says it; otherwise 0.
    fn local_rank(&self) -> usize {
        0
    }

    /// Stores the values of `own` of all workers in `all`, in the order of their ranks. The tensors are contiguous, of the same
    /// type in all workers, and on the CPU or on a GPU that no other worker has; `all` has as many values of each worker as
    /// `own`.
    ///
    /// # Errors
    /// If a worker is lost, or does not call this method in time.
    fn gather(&self, own: &Tensor, all: &mut Tensor) -> Result<(), LostWorker>;

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
