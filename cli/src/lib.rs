//! `retort`: the demo, training runs, predictions and models from the command line.
//!
//! A client of the services' gRPC interfaces; [`demo`] starts the services itself, as processes of
//! their own, and links neither libtorch nor ONNX Runtime.

use clap::{Parser, Subcommand};

mod bench;
mod client;
pub mod demo;
mod drawing;
mod error;
mod image_files;
mod inference;
mod models;
mod predict;
mod prediction;
mod record;
mod run_config;
mod runs;
mod targets;
mod text_path;
mod tokens;

pub use error::{CliError, EXIT_USAGE};
pub use text_path::NotText;

const EXAMPLES: &str = "\
Examples:
  retort demo                          teach, distil, serve and measure, all on this machine
  retort run configs/run.toml          submit a training run and watch it
  retort runs list                     what the trainer has done and is doing
  retort predict --model fashion-mnist --index 0,1,2
  retort predict --model fashion-mnist shoe.png
  retort models list                   what the inference service serves
  retort bench stream                  how fast soft targets can come; starts retort-bench
  retort tokens create --name ci --scope publish
  retort record configs/run.toml       record a teacher's soft targets ahead of a run
  retort targets list targets          what is recorded

Exit codes: 0 done, 1 failed, 64 wrong usage or configuration, 130 stopped by Ctrl-C,
141 standard output was closed.";

/// Knowledge distillation as a service: train a teacher, distil a student, serve it.
#[derive(Debug, Parser)]
#[command(name = "retort", version, about, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArguments),
    Run(runs::RunArguments),
    Runs(runs::RunsArguments),
    Predict(predict::PredictArguments),
    Models(models::ModelsArguments),
    Bench(bench::BenchArguments),
    Tokens(tokens::TokensArguments),
    Record(record::RecordArguments),
    Targets(targets::TargetsArguments),
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, in one line; [`CliError::exit_code`] tells the process's exit code.
pub async fn execute(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Demo(arguments) => demo::execute(arguments).await,
        Command::Run(arguments) => runs::run(arguments).await,
        Command::Runs(arguments) => runs::execute(arguments).await,
        Command::Predict(arguments) => predict::execute(arguments).await,
        Command::Models(arguments) => models::execute(arguments).await,
        Command::Bench(arguments) => bench::execute(arguments),
        Command::Tokens(arguments) => tokens::execute(arguments),
        Command::Record(arguments) => record::execute(&arguments),
        Command::Targets(arguments) => targets::execute(arguments),
    }
}
