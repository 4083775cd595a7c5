//! The service as a process, and models to publish.

mod artifact;
mod captures;
mod load;
mod publishing;
mod rest;
mod service;

pub use artifact::{
    Artifact, CLASSES, INPUT_SHAPE, MODEL, assert_close, infer_request, normalized, upload,
};
pub use captures::{PIXELS, distinct_images, image_request, read_captured};
pub use load::{Check, Load};
pub use publishing::{listed, publish, publish_keeping_active};
pub use rest::{Connection, Response};
pub use service::{
    BINARY, FREE_PORTS, PATIENCE, Service, ServiceOptions, repository, run_to_the_end,
    serve_to_the_end, wait_until,
};
