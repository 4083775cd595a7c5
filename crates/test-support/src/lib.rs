//! Test support that several crates share. No crate that ships depends on it.
//!
//! - [`Process`], [`Teacher`], [`InferenceService`]: real processes on free ports. Dropping the value kills the process.
//! - [`Bucket`]: a bucket of a real object store; [`FaultyStore`]: one in memory that fails when a test says so, or asks its
//!   process to stop while that waits for an answer.
//! - [`eventually`]: waits for a condition, never for a fixed time.
//! - [`write_artifact`], [`write_idx`], [`write_table`], [`run_toml`]: small teachers, data sets and configurations
//!   of runs.
//! - [`published`]: the weights of published networks, and their logits.
//! - [`event_files`]: event files as the real TensorBoard reads them.
//! - [`NameServer`]: a DNS server whose answers a test changes.
//! - [`damage`]: damaged inputs for property tests of parsers.
//! - [`TraceCollector`]: receives traces over OTLP.
//! - [`Relay`]: a TCP relay whose connections a test stalls without closing them.
//! - [`RequestRelay`]: a TCP relay that a test stops at a chosen request, and that throttles its clients
//!   ([`Pace`]).
//! - [`SigningKeys`]: keys that sign models.
//! - [`certificates`], [`refusals`]: keys and tokens, and the checks that a port rejects wrong ones.
//! - [`process_life`]: checks of how a service starts, logs and stops.
//! - [`open_streams`]: streams and connections that must not delay the stop of a service.
//! - [`held_file`], [`wrapper`]: files on which `open` blocks, and programs that start another program.

#![allow(
    async_fn_in_trait,
    clippy::new_without_default,
    clippy::unwrap_used,
    missing_docs,
    reason = "support of tests is part of the tests"
)]

mod addresses;
mod bucket;
pub mod certificates;
mod conditions;
pub mod damage;
mod data;
pub mod event_files;
mod faulty_store;
pub mod held_file;
mod inference;
mod metrics_page;
mod name_server;
pub mod open_streams;
mod process;
pub mod process_life;
pub mod published;
pub mod refusals;
mod relay;
mod request_relay;
pub mod run_toml;
mod signing_keys;
mod teacher;
mod throttling;
mod trace_collector;
pub mod wrapper;

pub use addresses::{own_host, unused_address};
pub use bucket::Bucket;
pub use conditions::{SOON, eventually, eventually_constant, eventually_within};
pub use data::{TABLE_CENTERS, TABLE_CLASSES, TABLE_SPREAD, class_names, write_idx, write_table};
pub use faulty_store::{FaultyStore, StoreFault};
pub use inference::InferenceService;
pub use metrics_page::{http_get, metric, metric_in};
pub use name_server::NameServer;
pub use process::{Process, built_beside, signal};
pub use relay::Relay;
pub use request_relay::{Pace, RequestRelay, StopAt};
pub use signing_keys::SigningKeys;
pub use teacher::{Teacher, write_artifact};
pub use trace_collector::{CollectedSpan, TraceCollector};
