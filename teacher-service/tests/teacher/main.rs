//! Tests the teacher service as a process, through its sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod inference_server;
mod inspect;
mod lifecycle;
mod memory;
mod onnx;
mod opened;
mod pets;
mod published_network;
mod references;
mod rows;
mod security;
mod stream;
mod support;
mod torch_program;
