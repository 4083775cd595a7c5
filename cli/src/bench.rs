//! `retort bench`: starts `retort-bench`, the program of the benchmarks.

use std::ffi::OsString;

use clap::Args;

use crate::{
    CliError,
    local::{self, Program},
};

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
    Err(local::replace_process(
        Program {
            name: "retort-bench",
            build: "build it on a machine with libtorch: `cargo build --release -p benchmarks`",
        },
        arguments.arguments,
    ))
}
