//! Recorded soft targets across real processes: the same student as with live teachers, recordings that
//! survive being killed, shards that are repaired one by one.

mod classes;
mod recording;
mod scene;
mod teachers_gone;
