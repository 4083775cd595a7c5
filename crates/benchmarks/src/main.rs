//! `retort-bench` measures Retort on one machine.
//!
//! Each benchmark starts the services' programs, measures numerators and denominators alternately
//! within one run, and prints ratios. docs/benchmarks.md defines the ratios and lists the latest
//! figures. The programs that a benchmark starts beside the services are [`parts`] of this one.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use common::{
    output::{self, Messages, OutputError},
    process_environment::{self, TENSOR_SETTINGS},
    shutdown::Signals,
};
use mimalloc::MiMalloc;
use parts::Part;
use server::security::client::ConnectError;
use tokio::runtime::Runtime;

mod answer_bytes;
mod core_time;
mod cpu_time;
mod distill;
mod encodings;
mod measurement;
mod network;
mod number_arguments;
mod parts;
mod process;
mod recipe;
mod report;
mod scaling;
mod series;
mod serve;
mod stream;
mod streaming;
mod task;
mod threads;
mod train;
mod trainer;

/// The allocator of the inference service, so that the bare server differs from it only in what it does.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const NAME: &str = "retort-bench";
/// Exit code for a wrong command line (`EX_USAGE` of sysexits.h).
const USAGE_EXIT_CODE: u8 = 64;

/// Measure Retort on this machine.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  retort-bench distill                                the cost of soft targets in training
  retort-bench train                                  the speed of training beside PyTorch's
  retort-bench threads                                two threads on cores that other programs use
  retort-bench stream                                 the maximum rate of soft targets
  retort-bench encodings                              size and time of the encodings of soft targets
  retort-bench serve                                  the overhead of the inference service over ONNX Runtime
  retort-bench serve --url 127.0.0.1:8001 --model fashion-mnist --callers 1,64
  retort-bench scaling                                what limits many teachers and workers
docs/benchmarks.md explains every figure."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Distill(distill::DistillArguments),
    Train(train::TrainArguments),
    Threads(threads::ThreadsArguments),
    Stream(stream::StreamArguments),
    Encodings(encodings::EncodingsArguments),
    Serve(Box<serve::ServeArguments>),
    Scaling(Box<scaling::ScalingArguments>),
    #[command(flatten)]
    Part(Part),
}

fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return output::report_command_line(NAME, &error, USAGE_EXIT_CODE),
    };
    execute(command).unwrap_or_else(|error| match error.downcast_ref::<OutputError>() {
        Some(error) => error.report(NAME),
        None => {
            writeln!(Messages, "error: {error:#}");
            let wrong_options = error
                .downcast_ref::<ConnectError>()
                .is_some_and(ConnectError::is_usage);
            ExitCode::from(if wrong_options { USAGE_EXIT_CODE } else { 1 })
        }
    })
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Distill(arguments) => measure(distill::execute(&arguments)),
        Command::Train(arguments) => measure(train::execute(&arguments)),
        Command::Threads(arguments) => measure(threads::execute(&arguments)),
        Command::Stream(arguments) => measure(stream::execute(&arguments)),
        Command::Encodings(arguments) => measure(encodings::execute(&arguments)),
        Command::Serve(arguments) => measure(serve::execute(*arguments)),
        Command::Scaling(arguments) => measure(scaling::execute(&arguments)),
        Command::Part(part) => {
            // As the services set them.
            let settings = [&TENSOR_SETTINGS[..], &onnx_runtime::ENVIRONMENT].concat();
            process_environment::require(&settings)
                .context("cannot restart with the variables of the libraries set")?;
            part.execute()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a benchmark. A signal ends it and the processes that it started.
fn measure(benchmark: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        tokio::select! {
            done = benchmark => done.map(|()| ExitCode::SUCCESS),
            signal = signals.next() => {
                writeln!(Messages, "error: stopped by {signal}");
                Ok(ExitCode::from(signal.exit_code()))
            }
        }
    })
}
