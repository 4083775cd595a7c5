//! What `retort bench serve` sets the service's figures against: ONNX Runtime's own best, and the
//! bare cost of a call. Each runs as a process of its own.

pub mod echo;
pub mod session;
pub mod store;

pub use store::BenchNetwork;
