//! The service as a process of its own, and models to publish to it.

mod artifact;
mod load;
mod rest;
mod service;

pub use artifact::{Artifact, CLASSES, MODEL, assert_close, infer_request, upload};
pub use load::{Check, Load};
pub use rest::{Connection, Response};
pub use service::{
    BINARY, PATIENCE, Service, ServiceOptions, repository, run_to_the_end, wait_until,
};
