//! Interrupted runs resume and end with the bytes of an undisturbed run. Real processes are killed,
//! stopped, or left without teachers or disk space.

mod buckets;
mod foreign_teacher;
mod full_disk;
mod kills;
mod named_teachers;
mod refusals;
mod scene;
mod service;
mod service_in_bucket;
mod several_workers;
mod tensorboard;
