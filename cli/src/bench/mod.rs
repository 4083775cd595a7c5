//! Benchmarks. Each starts the services' programs, measures numerators and denominators alternately
//! within one run, and prints ratios. docs/benchmarks.md defines the ratios and lists the latest figures.

mod cpu_time;
mod distill;
mod error;
mod process;
mod report;
mod series;
mod serve;
mod stream;

use clap::{Args, Subcommand};
use common::shutdown::Signals;

pub use error::BenchError;

use crate::CliError;

/// Measure Retort on this machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  retort bench distill                                the cost of soft targets in training
  retort bench stream                                 the maximum rate of soft targets
  retort bench serve                                  the overhead of the inference service over ONNX Runtime
  retort bench serve --url 127.0.0.1:8001 --model fashion-mnist --callers 1,64
docs/benchmarks.md explains every figure.")]
pub struct BenchArguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    Distill(distill::DistillArguments),
    Stream(stream::StreamArguments),
    Serve(Box<serve::ServeArguments>),
}

/// Runs a benchmark. A signal ends it and the processes that it started.
pub(crate) async fn execute(arguments: BenchArguments) -> Result<(), CliError> {
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let benchmark = async {
        match arguments.benchmark {
            Benchmark::Distill(arguments) => distill::execute(&arguments).await,
            Benchmark::Stream(arguments) => stream::execute(&arguments).await,
            Benchmark::Serve(arguments) => serve::execute(*arguments).await,
        }
    };
    tokio::select! {
        done = benchmark => done,
        signal = signals.next() => Err(CliError::Stopped(signal)),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "give a whole number of 1 or more".to_owned())
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "give a number above 0".to_owned())
}
