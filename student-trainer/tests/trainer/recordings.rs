//! Recorded soft targets with real processes: they give the same student as live teachers, a killed
//! recording continues, and single shards are repaired.

mod buckets;
mod classes;
mod losses;
mod named_teachers;
mod recording;
mod sampled;
mod scene;
mod teachers_gone;
mod workers;
