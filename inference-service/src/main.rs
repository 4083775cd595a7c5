//! Command line of the inference service.

mod bench_command;

use std::{ffi::OsString, num::NonZero, path::PathBuf, process::ExitCode, thread, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};
use common::{
    config::{self, Layers},
    output::{self, Messages, Narration, OutputError},
    process_environment, shutdown,
    telemetry::{self, LogFormat},
};
use inference_service::{
    config::{ENVIRONMENT_PREFIX, InferenceConfig, SHIPPED},
    serve,
};
use mimalloc::MiMalloc;
use server::{health_check, security::client::CredentialArguments};
use tokio::runtime::Builder;

/// Buffers of requests are allocated on one thread and freed on another, which this allocator does
/// without locks.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The allocator gives the memory of a model that is no longer served back to the system after this
/// many milliseconds. With its own default, a second, quick publishes held half as much memory again.
const ALLOCATOR_SETTINGS: [(&str, &str); 1] = [("MIMALLOC_PURGE_DELAY", "10")];

/// Serves ONNX models over the Open Inference Protocol v2 (KServe, Triton).
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  inference-service serve --store models
  inference-service healthcheck 127.0.0.1:8001"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models until SIGTERM, SIGINT or SIGHUP.
    Serve(Serve),
    /// Ask a running service whether it is ready; exit code 0 or 1.
    #[command(after_help = "Example:\n  inference-service healthcheck 127.0.0.1:8001")]
    Healthcheck(Healthcheck),
    /// Measure what `retort bench serve` compares this service with.
    #[command(subcommand)]
    Bench(bench_command::BenchCommand),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  inference-service serve --store models
  inference-service serve --set batching.max_batch_size=16 --set runtime.instances=2
  inference-service serve --set 'models.\"v1.0\".max_batch_size=4'
  RETORT_INFERENCE__GRPC__LISTEN=0.0.0.0:8001 inference-service serve --config inference.toml
Every key is explained in configs/inference-service.toml.")]
struct Serve {
    /// Folder of the model store; wins over --set store=DIR.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// TOML file laid over the shipped defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key; may be given again. For a text key the value is text as it stands, or a TOML string in
    /// quotes; for any other key it is TOML.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<OsString>,
    /// Write the addresses in use here, as JSON, once serving.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(clap::Args)]
struct Healthcheck {
    /// host:port of the service.
    #[arg(default_value = "127.0.0.1:8001")]
    address: String,
    /// Longest time to wait for an answer, seconds.
    #[arg(long, default_value_t = 5)]
    timeout: u64,
    #[command(flatten)]
    credentials: CredentialArguments,
}

const NAME: &str = "inference-service";
/// Of a wrong command line.
const USAGE_EXIT_CODE: u8 = 2;

fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return output::report_command_line(NAME, &error, USAGE_EXIT_CODE),
    };
    // A health check loads no library, and starting anew would double what it costs.
    let loads = !matches!(command, Command::Healthcheck(_));
    let settings = [&ALLOCATOR_SETTINGS[..], &onnx_runtime::ENVIRONMENT].concat();
    if loads && let Err(error) = process_environment::require(&settings) {
        writeln!(
            Messages,
            "{NAME}: cannot start anew with its own environment: {error}"
        );
    }
    let done = match command {
        Command::Serve(arguments) => serve(arguments),
        Command::Healthcheck(arguments) => healthcheck(&arguments),
        Command::Bench(command) => {
            runtime().and_then(|runtime| bench_command::execute(command, &runtime))
        }
    };
    done.unwrap_or_else(|error| match error.downcast_ref::<OutputError>() {
        Some(error) => error.report(NAME),
        None => {
            writeln!(Messages, "{NAME}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn serve(arguments: Serve) -> anyhow::Result<ExitCode> {
    let layers = Layers {
        shipped: SHIPPED,
        file: arguments.config,
        environment: config::environment(ENVIRONMENT_PREFIX),
        overrides: arguments.set,
    };
    let store = |config: &mut InferenceConfig| {
        if let Some(store) = arguments.store {
            config.store = store;
        }
    };
    let config = match layers.load_with(store) {
        Ok(config) => config,
        Err(error) => {
            writeln!(Messages, "{NAME}: {error}");
            return Ok(ExitCode::from(config::EXIT_CODE));
        }
    };
    let _log = telemetry::init(arguments.log_format);
    runtime()?.block_on(async {
        let shutdown = shutdown::on_signal().context("cannot listen for signals")?;
        // Not the chain of causes: each error's own text says everything.
        serve::run(&config, arguments.ready_file.as_deref(), shutdown)
            .await
            .map_err(|error| anyhow::Error::msg(error.to_string()))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn healthcheck(arguments: &Healthcheck) -> anyhow::Result<ExitCode> {
    let timeout = Duration::from_secs(arguments.timeout);
    let credentials = arguments.credentials.credentials()?;
    runtime()?
        .block_on(health_check::check_health(
            &credentials,
            &arguments.address,
            timeout,
        ))
        .map_err(anyhow::Error::msg)?;
    // The exit code is the answer.
    writeln!(Narration, "{} is ready", arguments.address);
    Ok(ExitCode::SUCCESS)
}

/// The runtime of the network's side; batches are computed on threads of their own.
///
/// With one or two processors it is one thread, which runs tasks in the order in which they woke: all
/// answers of a batch are then written before anything else is read, several in one system call. A
/// pool's threads run what they woke last at once, and write every answer by itself.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = match processors {
        1 | 2 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(processors.div_ceil(2))
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}
