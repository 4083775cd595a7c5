//! Services as processes of this machine, for commands that need no other.

mod error;
mod output_folder;
mod processes;
mod replacement;
mod services;

pub use error::LocalError;
pub(crate) use output_folder::{KeptService, OutputFolder, Owner};
pub(crate) use processes::{Processes, Service};
pub(crate) use replacement::{Program, replace_process};
pub(crate) use services::{INFERENCE, LocalServices, PROGRAMS};
