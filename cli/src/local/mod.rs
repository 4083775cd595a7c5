//! Services as processes of this machine, for commands that need no other.

mod error;
mod evaluation;
mod inference;
mod output_folder;
mod processes;
mod replacement;
mod services;
mod setting;

pub use error::LocalError;
pub(crate) use evaluation::{Evaluate, Evaluation, ModelFigures, TEACHER};
pub(crate) use inference::InferenceSettings;
pub(crate) use output_folder::{KeptService, OutputFolder, Owner};
pub(crate) use processes::{Processes, Service};
pub(crate) use replacement::{Program, replace_process};
pub(crate) use services::{INFERENCE, LocalServices, PROGRAMS};
