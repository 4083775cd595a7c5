//! The training loop, losses, optimizers and schedules. Nothing else in this crate touches libtorch.

mod batch_sums;
mod early_stopping;
mod ema;
mod error;
mod exchange;
mod gradients;
mod inference;
mod interval;
mod loss;
mod meter;
mod mixed_labels;
mod optimizer;
mod phase;
mod schedule;
mod soft_targets;
mod state;
mod term_sources;
mod updater;
mod worker_device;

#[cfg(test)]
pub(crate) mod in_process_workers;
#[cfg(test)]
mod resumption;

pub use error::{Divergence, EngineError, NotFinite};
pub use inference::{int8_logits, logits};
pub use meter::Totals;
pub use phase::{PhaseContext, PhaseSummary, train_phase};
pub use state::{BestEpoch, Checkpoints, EpochSummary, OptimizerState, PhaseProgress, PhaseState};
pub use torch_networks::{
    DeviceUnavailable, FakeQuantizedNetwork, Precision, TorchError, TorchNetwork, resolve_device,
};
pub use worker_device::device_of_worker;

/// Makes the calling thread, which must be the one that trains, compute with `configured` threads, or
/// with all cores if that is 0. Returns the number of threads.
pub fn set_threads(configured: usize) -> usize {
    let threads = common::cores::threads(configured);
    torch_networks::set_threads(threads);
    threads
}
