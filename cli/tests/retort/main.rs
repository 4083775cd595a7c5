//! Tests `retort` as a process, and the dependencies of the whole workspace.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bench;
mod data;
mod demo;
mod dependencies;
mod distill;
mod distill_rows;
mod import_circles;
mod init;
mod models;
mod predict;
mod serve;
mod student;
mod sweep;
mod targets;
mod teacher;
