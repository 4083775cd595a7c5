//! The service as a process of its own, and models to publish to it.

mod artifact;
mod rest;
mod service;

pub use artifact::{Artifact, CLASSES, MODEL, assert_close, infer_request, upload};
pub use rest::Connection;
pub use service::{Service, ServiceOptions, repository, run_to_the_end, wait_until};
