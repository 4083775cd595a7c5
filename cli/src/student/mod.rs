//! `retort student`: choosing a student's network.

use clap::{Args, Subcommand};

use crate::CliError;

mod family;
mod latency;
mod search;
mod suggest;
mod table;

/// Choose a student's network.
#[derive(Debug, Args)]
pub struct StudentArguments {
    #[command(subcommand)]
    command: StudentCommand,
}

#[derive(Debug, Subcommand)]
enum StudentCommand {
    Suggest(suggest::SuggestArguments),
}

/// `retort student`.
pub(crate) fn execute(arguments: StudentArguments) -> Result<(), CliError> {
    match arguments.command {
        StudentCommand::Suggest(arguments) => suggest::execute(arguments),
    }
}
