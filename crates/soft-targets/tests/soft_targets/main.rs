//! Recordings on disk and in buckets.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod buckets;
mod packing;
mod recordings;
mod support;
mod workers;
