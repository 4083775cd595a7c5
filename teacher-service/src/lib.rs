//! Streams a teacher's logits over gRPC.
//!
//! The way of a batch: [`service`] accepts a stream and starts a [`stream::Session`], which checks
//! each [`batch::Batch`], takes it from the stream's credit and puts it into the
//! [`queue::FairQueue`]; the [`compute`] thread takes batches from the streams in turn, asks its
//! [`backend::Backend`] for logits and answers through the stream's [`stream::Responses`].
//!
//! - Each batch is computed as it came, never merged with others: the logits of a batch depend on
//!   the batch, the model and the numerics alone.
//! - Nothing is buffered without bound: connections and streams are limited; a batch holds a
//!   permit of its stream's credit until the transport takes its answer, and a part of the memory
//!   for all batches until it is computed; a trainer that does not read its answers is cut off.
//! - [`server`] wires it up: ports, health, reflection, metrics, draining.

pub mod backend;
pub mod batch;
pub mod bench;
pub mod compute;
pub mod config;
pub mod error;
pub mod libtorch_environment;
pub mod metrics;
pub mod queue;
pub mod serve;
pub mod service;
pub mod stream;
