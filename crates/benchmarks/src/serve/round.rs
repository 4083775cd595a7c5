//! The measurements of one turn of the comparison with ONNX Runtime.

use super::load::Measured;
use crate::parts::BatchSpeed;

/// Number of callers for the cost of a call.
pub(super) const MANY: usize = 64;

/// The measurements of one turn. The denominator of a ratio is the mean of measurements right before
/// and right after its numerator, because processors change their speed.
pub(super) struct Round {
    /// Speed by batch size.
    pub sweep: Vec<BatchSpeed>,
    pub first_run_ratio: f64,
    /// The fastest batch size of the sweep, before and after the load of many callers.
    pub best: [BatchSpeed; 2],
    /// Batches of one sample, before and after the load of one caller.
    pub one_sample: [BatchSpeed; 2],
    pub echo: [Measured; 2],
    /// The bare server with many callers, before and after the load of many callers.
    pub echo_many: [Measured; 2],
    pub one_caller: Measured,
    pub eight_callers: Measured,
    pub many_callers: Measured,
}

impl Round {
    /// The batch size with the most samples per second.
    ///
    /// # Panics
    /// If `sweep` is empty.
    pub(super) fn fastest(sweep: &[BatchSpeed]) -> BatchSpeed {
        let faster = |a: &&BatchSpeed, b: &&BatchSpeed| {
            a.samples_per_second.total_cmp(&b.samples_per_second)
        };
        *sweep.iter().max_by(faster).expect("a batch size")
    }

    pub(super) fn best_samples_per_second(&self) -> f64 {
        mean(self.best.map(|speed| speed.samples_per_second))
    }

    pub(super) fn one_sample_us(&self) -> f64 {
        mean(self.one_sample.map(|speed| speed.p50_us))
    }

    /// Median latency of one caller of the bare server.
    pub(super) fn echo_us(&self) -> f64 {
        mean(self.echo.map(|echo| echo.p50_us))
    }
}

/// The mean of measurements before and after another one.
pub(super) fn mean([before, after]: [f64; 2]) -> f64 {
    f64::midpoint(before, after)
}
