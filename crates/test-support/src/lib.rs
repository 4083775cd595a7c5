//! What the tests of several crates share. Nothing that ships depends on it.
//!
//! - [`Process`], [`Teacher`], [`InferenceService`]: real processes on free ports, watched by conditions, killed when dropped.
//! - [`eventually`]: waits for a condition, never for a time.
//! - [`write_artifact`], [`write_idx`], [`run_toml`]: small teachers, data sets and configurations of runs.
//! - [`NameServer`]: a DNS server whose answers change.
//! - [`damage`]: valid bytes that are damaged, for property tests of parsers.
//! - [`Relay`]: a TCP relay whose connections a test cuts without closing them.
//! - [`certificates`], [`refusals`]: keys, tokens, and the callers that every port must reject.
//! - [`process_life`]: what every service must do when it starts, logs and stops.
//! - [`held_file`], [`wrapper`]: files that take long to open, and programs that start another program.

#![allow(
    async_fn_in_trait,
    clippy::new_without_default,
    clippy::unwrap_used,
    missing_docs,
    reason = "support of tests is part of the tests"
)]

mod addresses;
pub mod certificates;
mod conditions;
pub mod damage;
mod data;
pub mod held_file;
mod inference;
mod metrics_page;
mod name_server;
mod process;
pub mod process_life;
pub mod refusals;
mod relay;
pub mod run_toml;
mod teacher;
pub mod wrapper;

pub use addresses::{own_host, unused_address};
pub use conditions::{SOON, eventually, eventually_constant, eventually_within};
pub use data::{class_names, write_idx};
pub use inference::InferenceService;
pub use metrics_page::{http_get, metric, metric_in};
pub use name_server::NameServer;
pub use process::{Process, built_beside, signal};
pub use relay::Relay;
pub use teacher::{Teacher, write_artifact};
