//! Services as processes of this machine, for commands that need no other.

mod error;
mod evaluation;
mod output_folder;
mod processes;
mod services;

pub use error::LocalError;
pub(crate) use evaluation::{Evaluate, Evaluation, TEACHER};
pub(crate) use output_folder::{KeptService, OutputFolder, Owner};
pub(crate) use processes::{Processes, Service};
pub(crate) use services::{INFERENCE, LocalServices, PROGRAMS};
