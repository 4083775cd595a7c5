//! The batches of `retort-bench stream`.

/// Samples per batch.
pub(super) const BATCH_SIZE: usize = 128;
/// Time that a simulated teacher takes per batch.
pub(super) const BATCH_MILLISECONDS: u64 = 20;
/// Batches in flight per simulated teacher.
pub(super) const CREDIT: usize = 2;
/// Batches in flight to the teacher that answers with a constant, and over the bare stream: enough
/// that neither end waits for the other.
pub(super) const DEEP: usize = 64;
