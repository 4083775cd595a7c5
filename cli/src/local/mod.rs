//! Services as processes of this machine, for commands that need no other.

mod error;
mod inference;
mod output_folder;
mod processes;
mod services;
mod setting;

pub use error::LocalError;
pub(crate) use inference::InferenceSettings;
pub(crate) use output_folder::{KeptService, OutputFolder, Owner};
pub(crate) use processes::{Processes, Service};
pub(crate) use services::{INFERENCE, LocalServices, PROGRAMS};
