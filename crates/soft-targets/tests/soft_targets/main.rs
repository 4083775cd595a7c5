//! Recordings on disk.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod packing;
mod recordings;
mod support;
mod workers;
