//! Tests `retort` as a process, the dependencies and the errors of the whole workspace, and the manifests for Kubernetes.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bench;
mod captured;
mod data;
mod demo;
mod dependencies;
mod distill;
mod distill_rows;
mod error_reasons;
mod import_circles;
mod init;
mod kubernetes;
mod models;
mod predict;
mod serve;
mod student;
mod sweep;
mod targets;
mod teacher;
