//! The teachers of a run.
//!
//! A [`TeacherPool`] keeps one stream to each teacher. Every submitted batch enters one queue from which the teachers
//! pull, so a faster teacher takes more batches. Batches that a lost teacher has not answered return to the head of the
//! queue. A batch that a slow teacher holds up is also sent to a second teacher, and the first answer wins. Each ticket
//! gets exactly one answer, so a run's result does not depend on which teacher answered or how often one was lost.
//!
//! - `pool`: the handle that a run holds.
//! - `reference_search`: finds the first teacher; every other teacher must share its identity (`reference`).
//! - `directory`, `resolver`: resolve the configured endpoints to addresses; `discovery` starts a `member` for each.
//! - `member`: connects to one address, checks the teacher (`candidate`, `health`), streams, and reconnects.
//! - `instances`: one stream per teacher process, even if several addresses reach it.
//! - `batch`: what a run submits: values, and positions for teachers that have the run's data.
//! - `stream`, `in_flight`: batches up, answers down; `parts` splits batches that do not fit into a message.
//! - `queue`, `unanswered`: which teacher has which batch; `hedging` finds overdue batches by their `round_trip`.
//! - `roster`: which teachers are connected; reports changes to the [`PoolObserver`].
//! - `watchdog`: reports that training waits, and fails the batches when it has waited too long.

mod batch;
mod candidate;
mod config;
mod connection_end;
mod directory;
mod discovery;
mod error;
mod expected;
mod health;
mod hedging;
mod in_flight;
mod instances;
mod member;
mod observer;
mod parts;
mod pool;
mod queue;
mod reference;
mod reference_search;
mod resolver;
mod roster;
mod round_trip;
mod shared;
mod stream;
mod teacher;
mod unanswered;
mod watchdog;

pub use batch::TeacherBatch;
pub use config::{BatchContent, NumericsPolicy, PoolConfig};
pub use error::PoolError;
pub use expected::{BatchSize, ExpectedTeacher};
pub use observer::{PoolObserver, SentAs, SentRequest};
pub use parts::MIN_REQUEST_IMAGES;
pub use pool::{TeacherPool, Ticket};
