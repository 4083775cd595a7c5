//! The pool with teachers that run in this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod misbehaving;
mod references;
mod support;
