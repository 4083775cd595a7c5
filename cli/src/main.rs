//! The `retort` program; see the library of this crate.

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, EXIT_USAGE};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Nothing is left to do where neither output nor error stream takes the message.
            let _ = message.print();
            return match message.use_stderr() {
                true => ExitCode::from(EXIT_USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    match cli::execute(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
