//! The steps of a phase since its last report of progress.

use std::time::{Duration, Instant};

use super::{
    TorchError,
    meter::{Meter, Totals},
};

/// The steps since the last report.
pub(super) struct Interval {
    pub meter: Meter,
    /// First step in this process: position in the epoch, 0-based.
    pub first_step: u64,
    /// Samples that an earlier process counted.
    pub samples_before: u64,
    pub started: Instant,
    /// Time spent waiting for soft targets.
    pub waited: Duration,
    /// Time spent waiting for the loader.
    pub waited_for_data: Duration,
}

impl Interval {
    pub(super) fn start(first_step: u64, before: Totals) -> Result<Self, TorchError> {
        Ok(Self {
            samples_before: before.samples,
            meter: Meter::from(before)?,
            first_step,
            started: Instant::now(),
            waited: Duration::ZERO,
            waited_for_data: Duration::ZERO,
        })
    }
}
