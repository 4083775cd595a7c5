//! Recorded soft targets across real processes: the same student as with live teachers, recordings that
//! survive being killed, shards that are repaired one by one.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod classes;
mod recording;
mod scene;
#[path = "../support/small_disk.rs"]
mod small_disk;
mod teachers_gone;
