//! What a run submits to its teachers.

use bytes::Bytes;
use soft_targets::{DrawSeeds, SampleReferences};

/// A batch for the teachers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TeacherBatch {
    /// The samples as [`TeacherPool::input`](crate::TeacherPool::input) describes them, row-major, little-endian.
    pub data: Bytes,
    /// Number of samples.
    pub samples: usize,
    /// One for each sample, if the encoding of the answers is a sampled one.
    pub seeds: DrawSeeds,
    /// The same samples by their positions in the run's data, for teachers that have it. `None`: every teacher gets
    /// `data`.
    pub references: Option<SampleReferences>,
}
