//! Runs the benchmarks with small workloads and real services.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod scaling;
mod serve;
mod soft_targets;
mod support;
mod threads;
mod training;
