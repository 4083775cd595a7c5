//! Serves ONNX models over the Open Inference Protocol v2, and publishes new ones while it serves.
//!
//! A request passes through `grpc` or `http` (images also through `classification`), then `inference`,
//! which checks it, `catalog`, which selects the version, and `batcher`, a queue and the session threads. A
//! publish passes through `grpc`, then `publisher`, which checks, loads and stores the model, and ends in
//! `catalog`, which replaces the version that serves.

mod batcher;
mod canary;
mod capture;
mod catalog;
mod classification;
pub mod config;
mod error;
mod grpc;
mod http;
mod inference;
mod loaded_version;
mod metrics;
mod model_parameters;
mod names;
mod port_rules;
mod ports;
mod publisher;
mod raw_samples;
mod readiness;
mod refusals;
mod route;
pub mod serve;
mod sharing;
mod starting;
mod statistics;
mod teacher;
#[cfg(test)]
mod test_model;

pub use error::{InferenceError, PublishError, Reason};
pub use metrics::Metric;
pub use publisher::warm_up;
