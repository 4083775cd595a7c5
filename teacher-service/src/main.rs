//! Command line of the teacher service.

use std::{ffi::OsString, num::NonZero, path::PathBuf, process::ExitCode, thread, time::Duration};

use anyhow::anyhow;
use clap::{Parser, Subcommand};
use common::{
    config::{self, Layers},
    output::{self, Messages, Narration, OutputError, Results},
    shutdown,
    telemetry::{self, LogFormat},
};
use proto::teacher::v1::{DescribeRequest, teacher_service_client::TeacherServiceClient};
use server::{health_check, security::client::CredentialArguments};
use teacher_service::{
    bench::{self, BenchArguments},
    config::{ENVIRONMENT_PREFIX, SHIPPED, TeacherConfig},
    libtorch_environment, serve,
};

/// Streams a teacher's logits (soft targets) over gRPC.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  teacher-service serve --artifact runs/demo/teacher/artifact
  teacher-service healthcheck 127.0.0.1:50051
  teacher-service describe 127.0.0.1:50051"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a teacher until SIGTERM, SIGINT or SIGHUP.
    Serve(Serve),
    /// Ask a running service whether it serves; exit code 0 or 1.
    #[command(after_help = "Example:\n  teacher-service healthcheck 127.0.0.1:50051")]
    Healthcheck(Peer),
    /// Print what a running service's teacher is and what it expects.
    #[command(after_help = "Example:\n  teacher-service describe 127.0.0.1:50051")]
    Describe(Peer),
    Bench(BenchArguments),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  teacher-service serve --artifact runs/demo/teacher/artifact
  teacher-service serve --artifact teacher --set compute.precision=f32 --set compute.threads=2
  RETORT_TEACHER__GRPC__LISTEN=127.0.0.1:6000 teacher-service serve --config teacher.toml
Every key is explained in configs/teacher-service.toml.")]
struct Serve {
    /// Folder with weights.safetensors and model.toml; wins over --set artifact=DIR.
    #[arg(long, value_name = "DIR")]
    artifact: Option<PathBuf>,
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
struct Peer {
    /// host:port of the service.
    #[arg(default_value = "127.0.0.1:50051")]
    address: String,
    /// Longest time to wait for an answer, seconds.
    #[arg(long, default_value_t = 5)]
    timeout: u64,
    #[command(flatten)]
    credentials: CredentialArguments,
}

impl Peer {
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

const NAME: &str = "teacher-service";
/// Of a wrong command line.
const USAGE_EXIT_CODE: u8 = 2;

fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return output::report_command_line(NAME, &error, USAGE_EXIT_CODE),
    };
    let done = match command {
        Command::Serve(arguments) => serve(arguments),
        Command::Healthcheck(peer) => healthcheck(&peer),
        Command::Describe(peer) => describe(&peer),
        Command::Bench(arguments) => bench::execute(arguments).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| match error.downcast_ref::<OutputError>() {
        Some(error) => error.report(NAME),
        None => {
            // Not the chain of causes: each error's own text says everything.
            writeln!(Messages, "{NAME}: {error}");
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
    let artifact = |config: &mut TeacherConfig| {
        if let Some(artifact) = arguments.artifact {
            config.artifact = artifact;
        }
    };
    let config = match layers.load_with(artifact) {
        Ok(config) => config,
        Err(error) => {
            writeln!(Messages, "{NAME}: {error}");
            return Ok(ExitCode::from(config::EXIT_CODE));
        }
    };
    // Before any thread exists and before libtorch is used: may start the process anew.
    libtorch_environment::settle(config.compute.cpu_isa)
        .map_err(|error| anyhow!("cannot restart with libtorch's variables set: {error}"))?;

    let _log = telemetry::init(arguments.log_format);
    runtime()?.block_on(async {
        let shutdown =
            shutdown::on_signal().map_err(|error| anyhow!("cannot listen for signals: {error}"))?;
        serve::run(&config, arguments.ready_file.as_deref(), shutdown).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn healthcheck(peer: &Peer) -> anyhow::Result<ExitCode> {
    let credentials = peer.credentials.credentials()?;
    runtime()?
        .block_on(health_check::check_health(
            &credentials,
            &peer.address,
            peer.timeout(),
        ))
        .map_err(anyhow::Error::msg)?;
    // The exit code is the answer.
    writeln!(Narration, "{} is serving", peer.address);
    Ok(ExitCode::SUCCESS)
}

fn describe(peer: &Peer) -> anyhow::Result<ExitCode> {
    let address = &peer.address;
    let credentials = peer.credentials.credentials()?;
    let ask = async {
        let channel = credentials.connect(address).await;
        let channel = channel.map_err(|error| anyhow!("cannot connect to {address}: {error}"))?;
        let response = TeacherServiceClient::new(channel)
            .describe(DescribeRequest {})
            .await
            .map_err(|status| anyhow!("{address} answered: {}", credentials.reason(&status)))?;
        anyhow::Ok(response.into_inner())
    };
    let teacher = runtime()?
        .block_on(async { tokio::time::timeout(peer.timeout(), ask).await })
        .map_err(|_| anyhow!("{address} did not answer within {} s", peer.timeout))??;
    let numerics = teacher.numerics.unwrap_or_default();
    writeln!(Results, "model id:       {}", teacher.model_id)?;
    writeln!(Results, "numerics:       {}", numerics.descriptor)?;
    writeln!(Results, "probe:          {}", numerics.probe_sha256)?;
    writeln!(
        Results,
        "input:          {:?} (channels, height, width)",
        teacher.input_shape
    )?;
    writeln!(
        Results,
        "normalization:  mean {:?}, std {:?}",
        teacher.normalization_mean, teacher.normalization_std
    )?;
    writeln!(
        Results,
        "classes:        {}",
        teacher.class_names.join(", ")
    )?;
    writeln!(
        Results,
        "service:        teacher-service {}",
        teacher.service_version
    )?;
    Ok(ExitCode::SUCCESS)
}

/// More network threads than this bring nothing beside one that computes, and each keeps memory of
/// its own.
const MAX_NETWORK_THREADS: usize = 4;

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(processors.min(MAX_NETWORK_THREADS))
        .build()
        .map_err(|error| anyhow!("cannot start the network threads: {error}"))
}
