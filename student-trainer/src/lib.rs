//! Trains teachers and distils students.
//!
//! A *run* is a list of *phases* over one network: training a teacher is a run of one supervised
//! phase; a student is distilled, fine-tuned, exported and published by one run. One loop in
//! [`engine`] does every phase; the loss decides whether soft targets are needed.
//!
//! - [`config`]: configuration of runs and of the run service.
//! - [`run`]: one run from start to end, and its folder.
//! - [`bucket_run`]: a run whose output is in a bucket: its lease, and the copies of its states.
//! - [`training_data`]: the images of a run.
//! - [`loader`]: loads batches in seeded order ahead of training; asks teachers for soft targets.
//! - [`input_buffers`]: the memory of batches.
//! - [`engine`]: the training loop, losses, optimizers, schedules. Nothing else touches libtorch.
//! - [`pool_observer`]: passes on what the run's [`teacher_pool`] reports.
//! - [`soft_targets`]: soft targets from teachers and recordings.
//! - [`export`], `int8`, [`publish`]: exports to ONNX, compares with libtorch, quantizes, uploads.
//! - [`evaluate`]: evaluates models on the test split.
//! - [`service`]: runs over gRPC.
//! - [`metrics`]: Prometheus metrics.
//!
//! Every random choice is a pure function of (seed, purpose, phase, epoch, sample index): the same
//! configuration with the same thread count and instruction set gives the same bits, whatever the
//! timing and the number of teachers.

pub mod bucket_run;
mod classification;
pub mod config;
pub mod engine;
pub mod evaluate;
pub mod events;
pub mod export;
pub mod input_buffers;
mod int8;
pub mod loader;
pub mod metrics;
pub mod pool_observer;
pub mod publish;
pub mod run;
pub mod service;
pub mod soft_targets;
pub mod training_data;
