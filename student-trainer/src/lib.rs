//! Trains teachers and distils students.
//!
//! A *run* is a list of *phases* over one network: training a teacher is a run of one supervised
//! phase; a student is distilled, fine-tuned, exported and published by one run. One loop in
//! [`engine`] does every phase; the loss decides whether soft targets are needed.
//!
//! - [`config`]: what a run is told.
//! - [`run`]: one run from start to end, and the folder it leaves.
//! - [`loader`]: batches in seeded order, made ahead of training; asks teachers for soft targets.
//! - [`input_buffers`]: the memory of batches.
//! - [`engine`]: the training loop, losses, optimizers, schedules. Nothing else touches libtorch.
//! - [`pool_observer`]: passes on what the run's [`teacher_pool`] reports.
//! - [`soft_targets`]: what of theirs is asked, recorded and replayed.
//! - [`export`], [`publish`]: ONNX, its check against libtorch, its upload.
//! - [`evaluate`]: the one look at the test split.
//! - [`service`]: runs over gRPC.
//! - [`metrics`]: what Prometheus sees of it all.
//!
//! Every random choice is a pure function of (seed, purpose, phase, epoch, sample index): the same
//! configuration with the same thread count and instruction set gives the same bits, whatever the
//! timing and however many teachers come and go.

pub mod bench;
mod classification;
pub mod config;
pub mod engine;
pub mod evaluate;
pub mod events;
pub mod export;
pub mod input_buffers;
pub mod loader;
pub mod metrics;
pub mod pool_observer;
pub mod publish;
pub mod run;
pub mod service;
pub mod soft_targets;
pub mod training_data;
