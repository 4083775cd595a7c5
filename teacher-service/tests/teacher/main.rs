//! The teacher service as its users meet it: a process and its sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod lifecycle;
mod memory;
mod security;
mod stream;
mod support;
