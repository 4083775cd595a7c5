//! Tests the trainer through its processes, sockets and files.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod distillation;
mod faults;
mod initial_weights;
mod pictures;
mod recordings;
mod resume;
mod run_service;
mod runs;
mod security;
mod small_disk;
mod teachers;
mod traces;
