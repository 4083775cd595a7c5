//! `retort bench`: starts `retort-bench`, the program of the benchmarks.

use std::{env, ffi::OsString, os::unix::process::CommandExt, process};

use clap::Args;

use crate::CliError;

const PROGRAM: &str = "retort-bench";

/// Measure Retort on this machine: starts `retort-bench`, which stands beside this program.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Example:\n  retort bench stream --turns 3"
)]
pub struct BenchArguments {
    /// The arguments of `retort-bench`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Replaces this process by the program of the benchmarks.
///
/// # Errors
/// If the program cannot be started.
pub(crate) fn execute(arguments: BenchArguments) -> Result<(), CliError> {
    let program = env::current_exe()
        .unwrap_or_default()
        .with_file_name(PROGRAM);
    // `exec` returns only if it failed.
    let error = process::Command::new(&program)
        .args(arguments.arguments)
        .exec();
    Err(CliError::Bench { program, error })
}
