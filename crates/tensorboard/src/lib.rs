//! Event files that TensorBoard reads: scalars and histograms by step.
//!
//! An [`EventLog`] appends to a folder; `tensorboard --logdir` shows it. The files are sequences of protobuf messages
//! ([`event`]) in TensorFlow's record format (`record`).

pub mod event;
mod histogram;
mod log;
mod record;

pub use histogram::histogram;
pub use log::EventLog;
