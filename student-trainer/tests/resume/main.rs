//! Runs that are killed, stopped, starved of teachers or of disk, and go on: real processes, and
//! always the bytes of an undisturbed run.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod foreign_teacher;
mod full_disk;
mod kills;
mod refusals;
mod scene;
mod service;
#[path = "../support/small_disk.rs"]
mod small_disk;
