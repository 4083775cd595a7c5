//! `retort teacher`: starts `teacher-service`, which has the engines of all formats.

use std::{ffi::OsString, iter};

use clap::{Args, Subcommand};

use crate::{
    CliError,
    local::{self, Program},
};

/// Teachers' models.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort teacher inspect resnet50.onnx
  retort teacher inspect resnet50.onnx --data photos/ --set model.preprocessing.scale=unit
  retort teacher inspect --help")]
pub struct TeacherArguments {
    #[command(subcommand)]
    command: TeacherCommand,
}

#[derive(Debug, Subcommand)]
enum TeacherCommand {
    Inspect(InspectArguments),
}

/// Print what a model is, how well it fits a data set, and what looks wrong: starts `teacher-service inspect`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct InspectArguments {
    /// The arguments of `teacher-service inspect`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Replaces this process by `teacher-service`.
///
/// # Errors
/// If the program cannot be started.
pub(crate) fn execute(arguments: TeacherArguments) -> Result<(), CliError> {
    let TeacherCommand::Inspect(InspectArguments { arguments }) = arguments.command;
    let arguments = iter::once(OsString::from("inspect")).chain(arguments);
    Err(local::replace_process(
        Program {
            name: "teacher-service",
            build: "build it: `cargo build --release -p teacher-service`",
        },
        arguments.collect(),
    ))
}
