//! Runs that are killed, stopped, starved of teachers or of disk, and go on: real processes, and
//! always the bytes of an undisturbed run.

mod foreign_teacher;
mod full_disk;
mod kills;
mod refusals;
mod scene;
mod service;
