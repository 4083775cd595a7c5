//! Benchmarks. Each starts the services' own programs, compares within one run, in turn, and prints
//! ratios; docs/benchmarks.md tells what each means and its last figures.

mod error;
mod process;
mod series;
mod serve;

use clap::{Args, Subcommand};

pub use error::BenchError;

use crate::{CliError, signals::Signals};

/// Measure Retort on this machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort bench serve                                  what the inference service adds to ONNX Runtime
  retort bench serve --url 127.0.0.1:8001 --model fashion-mnist --callers 1,64
docs/benchmarks.md explains every figure.")]
pub struct BenchArguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    Serve(serve::ServeArguments),
}

/// Runs a benchmark; a signal ends it and the processes that it started.
pub(crate) async fn execute(arguments: BenchArguments) -> Result<(), CliError> {
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let benchmark = async {
        match arguments.benchmark {
            Benchmark::Serve(arguments) => serve::execute(arguments).await,
        }
    };
    tokio::select! {
        done = benchmark => done,
        signal = signals.next() => Err(CliError::Stopped(signal)),
    }
}
