//! The `retort` program; see the library of this crate.

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, CliError, EXIT_USAGE};
use common::output::{self, Messages};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return output::report_command_line("retort", &error, EXIT_USAGE),
    };
    let _traces = match traces::init("retort") {
        Ok(traces) => traces,
        Err(error) => {
            writeln!(Messages, "error: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match cli::execute(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Output(error)) => error.report("retort"),
        Err(error) => {
            writeln!(Messages, "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
