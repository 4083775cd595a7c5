//! Serves ONNX models over the Open Inference Protocol v2, and takes new ones while it serves.
//!
//! A request goes: `grpc` or `http` (the protocol; images through `classification`) → `inference` (the
//! one path behind every protocol: checks) → `catalog` (which version answers) → `batcher` (a queue,
//! then a session's own thread) → answer. A publish goes: `publisher` (upload, checks, loading) → the
//! model store → `catalog`, where the new version takes the old one's place.

mod batcher;
pub mod bench;
mod catalog;
mod classification;
pub mod config;
mod error;
mod grpc;
mod http;
mod inference;
mod metrics;
mod port_rules;
mod publisher;
mod readiness;
mod refusals;
pub mod serve;
mod starting;
mod statistics;
#[cfg(test)]
mod test_model;

pub use error::{HttpError, InferenceError, PublishError, Reason, ServiceError};
pub use metrics::Metric;
