//! Serves ONNX models over the Open Inference Protocol v2, and takes new ones while it serves.
//!
//! A request goes: `inference` (the protocol) → `catalog` (which version answers) → `request` (checks)
//! → `batcher` (a queue, then a session's own thread) → answer. A publish goes: `publisher` (upload,
//! checks, loading) → the model store → `catalog`, where the new version takes the old one's place.

mod batcher;
mod catalog;
pub mod config;
mod error;
mod inference;
mod metrics;
mod publisher;
mod request;
pub mod server;
mod statistics;

pub use error::{InferenceError, PublishError, ServiceError};
pub use metrics::Metric;
