//! The service as a process of its own, and models to publish to it.

mod artifact;
mod service;

pub use artifact::{Artifact, CLASSES, MODEL, assert_close, infer_request, upload};
pub use service::{Service, ServiceOptions, run_to_the_end, wait_until};
