//! Streams a teacher's logits over gRPC.
//!
//! The path of a batch: [`service`] accepts a stream and starts a [`stream::Session`], which checks each
//! [`batch::Batch`] against the stream's credit and queues it in the [`queue::FairQueue`]; the [`compute`]
//! thread takes batches round-robin from the streams, computes logits with its [`backend::Backend`] (opened as
//! [`model`] configures), and
//! answers through the stream's [`stream::Responses`].
//!
//! A batch may refer to samples of a data set on this machine ([`shared_data`]); the session renders them before
//! it queues the batch.
//!
//! - The service never merges batches: the logits of a batch depend only on the batch, the model and the
//!   numerics.
//! - Every buffer is bounded: connections and streams are limited; a batch holds a permit of its stream's
//!   credit until the transport takes its answer, and a share of the memory limit until it is computed; the
//!   service closes the stream of a trainer that does not read its answers.
//! - [`serve`] connects the parts: ports, health, reflection, metrics, draining.

pub mod backend;
pub mod batch;
pub mod compute;
pub mod config;
pub mod data_config;
pub mod error;
pub mod inspect;
pub mod libtorch_environment;
pub mod loaded_teacher;
pub mod metrics;
pub mod model;
pub mod queue;
pub mod serve;
pub mod service;
pub mod shared_data;
pub mod stream;
