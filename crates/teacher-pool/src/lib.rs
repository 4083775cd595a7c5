//! The teachers that a run is connected to.
//!
//! Every batch goes into one queue, from which the teachers pull: a faster teacher simply takes
//! more. What a lost teacher had not answered goes back to the head of the queue; what a straggler
//! holds up goes to a second teacher as well, and the first answer wins. Each ticket gets exactly
//! one answer, so which teacher answered, and how often one was lost, leaves no trace in the result.
//!
//! - [`election`] picks the teacher whose identity all others must share, or finds one of the identity
//!   that a checkpoint names.
//! - [`discovery`] looks the endpoints up again and again, by its [`resolver`], and starts a
//!   [`member`] for each address.
//! - A member connects, checks [`health`] and who is there ([`candidate`]), and keeps a [`stream`], on which
//!   batches travel in [`parts`] where they would not fit a message.
//! - [`instances`] sees to it that a process that is reached by several addresses has one stream.
//! - The [`queue`] knows who has which batch; [`straggler`] finds what is overdue by its
//!   [`round_trip`].
//! - [`roster`] knows who is connected and tells people about it; [`watchdog`] says when training
//!   waits, and gives up when it waits for too long; [`surplus`] says when there are more teachers
//!   than batches for them.

mod back_off;
mod candidate;
mod config;
mod connection_end;
mod directory;
mod discovery;
mod election;
mod error;
mod expected;
mod health;
mod in_flight;
mod instances;
mod member;
mod observer;
mod parts;
mod place;
mod pool;
mod queue;
mod reference;
mod resolver;
mod roster;
mod round_trip;
mod shared;
mod straggler;
mod stream;
mod unanswered;
mod watchdog;

pub use config::{NumericsPolicy, PoolConfig};
pub use error::PoolError;
pub use expected::{BatchSize, ExpectedTeacher};
pub use observer::PoolObserver;
pub use parts::FEWEST_IMAGES;
pub use pool::{PoolFigures, TeacherPool, Ticket};
