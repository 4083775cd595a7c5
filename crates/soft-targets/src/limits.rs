//! The format version of recordings, and their limits.

/// The newest format of `recording.json` and of shards that this build reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 2;

/// Largest number of views of a recording. Views are numbered, so a folder with a large number in its name
/// would otherwise keep a reader of all views busy for hours.
pub const MAX_VIEWS: u32 = 10_000;

/// Largest number of shards of a recording, over all views.
pub(crate) const MAX_SHARDS: u64 = 1_000_000;

/// Largest shard: what fits into a machine's memory.
pub(crate) const MAX_SHARD_BYTES: u64 = 1 << 40;

/// Disk space that a recording leaves free: file systems become slow and other programs fail on a full disk.
pub(crate) const RESERVED_BYTES: u64 = 64 << 20;
