//! Command line of the inference service.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use common::{
    cores,
    output::Messages,
    process_environment,
    telemetry::{self, LogFormat},
};
use export_arguments::ExportArguments;
use inference_service::{config::InferenceConfig, serve};
use mimalloc::MiMalloc;
use server::program::{self, PeerArguments, ServeArguments};
use tokio::runtime::Builder;

mod export_arguments;

/// Buffers of requests are allocated on one thread and freed on another, which this allocator does
/// without locks.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The allocator returns freed memory to the system after this many milliseconds. With its default of a second,
/// publishes in quick succession took half as much memory again.
const ALLOCATOR_SETTINGS: [(&str, &str); 1] = [("MIMALLOC_PURGE_DELAY", "10")];

/// Serves ONNX models over the Open Inference Protocol v2 (KServe, Triton).
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  inference-service serve --store models
  inference-service export --store s3://bucket/models exported
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
    /// Copy the active version of each model in a store, usually in a bucket, into a folder or a prefix with the layout of a
    /// store in a folder, which KServe and Triton can serve: NAME/VERSION/model.onnx.
    Export(ExportArguments),
    /// Check whether a running service is ready; exit code 0 or 1.
    #[command(
        after_help = "Example:\n  inference-service healthcheck 127.0.0.1:8001",
        mut_arg("address", |address| address.default_value("127.0.0.1:8001"))
    )]
    Healthcheck(PeerArguments),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  inference-service serve --store models
  inference-service serve --store s3://bucket/models
  inference-service serve --set batching.max_batch_size=16 --set runtime.instances=2
  inference-service serve --set 'models.\"v1.0\".max_batch_size=4'
  RETORT_INFERENCE__GRPC__LISTEN=0.0.0.0:8001 inference-service serve --config inference.toml
configs/inference-service.toml explains every key.")]
struct Serve {
    /// Folder of the model store, or URL of a bucket (s3://, gs://, az://); takes precedence over --set store=DIR.
    #[arg(long, value_name = "DIR|URL")]
    store: Option<PathBuf>,
    #[command(flatten)]
    service: ServeArguments,
    /// Format of log lines.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

const NAME: &str = "inference-service";

fn main() -> ExitCode {
    program::run(NAME, |arguments: Arguments| execute(arguments.command))
}

fn execute(command: Command) -> anyhow::Result<()> {
    // A health check and an export load no library, and executing the program again would double their cost.
    let loads = matches!(command, Command::Serve(_));
    let settings = [&ALLOCATOR_SETTINGS[..], &onnx_runtime::ENVIRONMENT].concat();
    if loads && let Err(error) = process_environment::require(&settings) {
        writeln!(
            Messages,
            "{NAME}: cannot restart with the environment variables that it needs: {error}"
        );
    }
    match command {
        Command::Serve(arguments) => serve(arguments),
        Command::Export(arguments) => {
            let _log = telemetry::init(LogFormat::default());
            arguments.export()
        }
        Command::Healthcheck(peer) => Ok(peer.healthcheck()?),
    }
}

fn serve(arguments: Serve) -> anyhow::Result<()> {
    let config = arguments.service.load(|config: &mut InferenceConfig| {
        if let Some(store) = arguments.store {
            config.store = store;
        }
    })?;
    let _log = telemetry::init(arguments.log_format);
    let _traces = traces::init(NAME)?;
    let ready_file = arguments.service.ready_file.as_deref();
    // The runtime ends in time even if a request to the model store gets no answer.
    program::with_runtime(&mut runtime(), |runtime| -> anyhow::Result<()> {
        let shutdown = program::shutdown_token(runtime)?;
        Ok(runtime.block_on(serve::run(&config, ready_file, shutdown))?)
    })?
}

/// The async runtime, which serves the ports. Batches are computed on other threads.
///
/// With one or two cores it has one thread, which runs tasks in the order in which they were woken: it writes all
/// answers of a batch, several per system call, before it reads anything else. The threads of a pool run the
/// most recently woken task first, and write every answer on its own.
fn runtime() -> Builder {
    let cores = cores::available();
    let mut builder = match cores {
        1 | 2 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(cores.div_ceil(2));
    builder
}
