//! The benchmarks against real services, with little work.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod serve;
mod soft_targets;
mod support;
