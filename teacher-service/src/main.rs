//! Command line of the teacher service.

use std::{num::NonZero, path::PathBuf, process::ExitCode};

use anyhow::anyhow;
use clap::{Parser, Subcommand};
use common::{
    cores,
    output::Results,
    telemetry::{self, LogFormat},
};
use datasets::{Format, Ground};
use indicatif::{ProgressBar, ProgressStyle};
use proto::teacher::v1::{
    DescribeRequest, DescribeResponse, teacher_service_client::TeacherServiceClient,
};
use server::{
    program::{self, ConfigArguments, PeerArguments, ServeArguments},
    security::client::Credentials,
};
use soft_targets::tensor_from_wire;
use teacher_service::{
    config::TeacherConfig,
    inspect::{self, DataChoice, Stage},
    libtorch_environment,
    model::format::ModelFormat,
    serve,
};
use tokio::runtime::Builder;
use tracing::warn;

/// Streams a teacher's logits (soft targets) over gRPC.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  teacher-service serve --model runs/demo/teacher/artifact
  teacher-service healthcheck 127.0.0.1:50051
  teacher-service describe 127.0.0.1:50051
  teacher-service inspect resnet50.onnx --data photos/"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a teacher until SIGTERM, SIGINT or SIGHUP.
    Serve(Serve),
    /// Ask a running service whether it is serving; exit code 0 or 1.
    #[command(
        after_help = "Example:\n  teacher-service healthcheck 127.0.0.1:50051",
        mut_arg("address", |address| address.default_value(DEFAULT_ADDRESS))
    )]
    Healthcheck(PeerArguments),
    /// Print a running service's teacher and the input that it expects.
    #[command(
        after_help = "Example:\n  teacher-service describe 127.0.0.1:50051",
        mut_arg("address", |address| address.default_value(DEFAULT_ADDRESS))
    )]
    Describe(PeerArguments),
    Inspect(Inspect),
}

const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  teacher-service serve --model runs/demo/teacher/artifact
  teacher-service serve --config teacher.toml --model resnet50.onnx
  teacher-service serve --model teacher --set compute.precision=f32 --set compute.threads=2
  RETORT_TEACHER__GRPC__LISTEN=127.0.0.1:6000 teacher-service serve --config teacher.toml
configs/teacher-service.toml explains every key.")]
struct Serve {
    /// The teacher's model: a run's artifact folder, an ONNX, .pt2, TorchScript or safetensors file, or
    /// grpc://HOST:PORT/MODEL; takes precedence over --set model.path=PATH.
    #[arg(long, value_name = "PATH", alias = "artifact")]
    model: Option<PathBuf>,
    #[command(flatten)]
    service: ServeArguments,
    /// Format of log lines.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Print what a model is, how well it fits a data set, and what looks wrong.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  teacher-service inspect resnet50.onnx
  teacher-service inspect resnet50.onnx --data photos/ --set model.preprocessing.scale=unit
  teacher-service inspect model.pt2 --config teacher.toml --data photos/ --samples 2000 --json
What the configuration and the files beside the model do not say is assumed, and listed as missing. A hint says which
keys of [model.preprocessing] fit the data significantly better; docs/teachers.md explains the rule.")]
struct Inspect {
    /// The teacher's model: an ONNX, .pt2 or TorchScript file, a run's artifact folder, or grpc://HOST:PORT/MODEL.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder or file of a data set to try the model on; labels are used if there are any.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Format of the data [default: detected].
    #[arg(long, value_name = "FORMAT", requires = "data")]
    format: Option<Format>,
    /// Color that shows through transparent pixels of pictures: white, black, gray or '#rrggbb'.
    #[arg(long, value_name = "COLOR", default_value_t = Ground::WHITE, requires = "data")]
    ground: Ground,
    /// Most samples to try the model on, of each class in proportion.
    #[arg(long, default_value_t = NonZero::new(500).expect("is not 0"))]
    samples: NonZero<usize>,
    #[command(flatten)]
    config: ConfigArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

const NAME: &str = "teacher-service";

fn main() -> ExitCode {
    program::run(NAME, |arguments: Arguments| match arguments.command {
        Command::Serve(arguments) => serve(arguments),
        Command::Healthcheck(peer) => Ok(peer.healthcheck()?),
        Command::Describe(peer) => describe(&peer),
        Command::Inspect(arguments) => inspect(arguments),
    })
}

fn serve(arguments: Serve) -> anyhow::Result<()> {
    let config = arguments.service.load(|config: &mut TeacherConfig| {
        if let Some(model) = arguments.model {
            config.model.path = model;
        }
    })?;
    settle_environment(&config)?;

    let _log = telemetry::init(arguments.log_format);
    let _traces = traces::init(NAME)?;
    let excess = cores::excess("compute.threads", config.compute.threads);
    if let Some(excess) = excess.filter(|_| computes_here(&config)) {
        warn!("{excess}");
    }
    let threads = cores::available().min(MAX_NETWORK_THREADS);
    let runtime = program::start_runtime(Builder::new_multi_thread().worker_threads(threads))?;
    let shutdown = program::shutdown_token(&runtime)?;
    let ready_file = arguments.service.ready_file.as_deref();
    Ok(runtime.block_on(serve::run(&config, ready_file, shutdown))?)
}

/// Must be called before any thread exists and before libtorch is used, because this may execute the program again.
fn settle_environment(config: &TeacherConfig) -> anyhow::Result<()> {
    if !computes_here(config) {
        return Ok(());
    }
    libtorch_environment::settle(config.compute.cpu_isa)
        .map_err(|error| anyhow!("cannot restart with libtorch's variables set: {error}"))
}

/// Whether this process computes the logits; an inference server computes elsewhere. A format that cannot be detected is
/// reported when the model is opened.
fn computes_here(config: &TeacherConfig) -> bool {
    let format = config.model.format.resolve(&config.model.path);
    !matches!(format, Ok(ModelFormat::InferenceServer))
}

fn inspect(arguments: Inspect) -> anyhow::Result<()> {
    let config = arguments.config.load(|config: &mut TeacherConfig| {
        config.model.path = arguments.model;
    })?;
    settle_environment(&config)?;
    let data = arguments.data.map(|path| DataChoice {
        path,
        format: arguments.format,
        ground: arguments.ground,
        samples: arguments.samples,
    });
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "{msg} {wide_bar} {pos}/{len}",
    )?);
    let report = inspect::inspect(&config.model, &config.compute, data.as_ref(), &|progress| {
        bar.set_message(match progress.stage {
            Stage::Reading => "reading the data",
            Stage::Measuring => "computing",
            Stage::Trying => "trying other cards",
        });
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    if arguments.json {
        writeln!(Results, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(Results, "{report}")?;
    }
    if data.is_some() && report.data.is_none() {
        return Err(anyhow!(
            "the model cannot compute, so it was not tried on the data"
        ));
    }
    Ok(())
}

/// More network threads do not make a teacher faster, whose compute thread is the bottleneck, and each
/// takes memory.
const MAX_NETWORK_THREADS: usize = 4;

fn describe(peer: &PeerArguments) -> anyhow::Result<()> {
    let (address, timeout) = (peer.address(), peer.timeout());
    let credentials = peer.credentials()?;
    let request = async {
        let described = tokio::time::timeout(timeout, request_description(address, &credentials));
        described
            .await
            .map_err(|_| anyhow!("{address} did not answer within {timeout:?}"))?
    };
    let teacher = program::with_runtime(&mut Builder::new_current_thread(), |runtime| {
        runtime.block_on(request)
    })??;
    let numerics = teacher.numerics.unwrap_or_default();
    writeln!(Results, "model id:       {}", teacher.model_id)?;
    writeln!(Results, "numerics:       {}", numerics.descriptor)?;
    writeln!(Results, "probe:          {}", numerics.probe_sha256)?;
    for input in teacher.inputs {
        let input = tensor_from_wire(input).map_err(|problem| anyhow!("{address}: {problem}"))?;
        writeln!(Results, "input:          {input}")?;
    }
    if !teacher.preprocessing.is_empty() {
        writeln!(Results, "preprocessing:  {}", teacher.preprocessing)?;
    }
    writeln!(
        Results,
        "classes:        {}",
        teacher.class_names.join(", ")
    )?;
    if !teacher.data_fingerprint.is_empty() {
        writeln!(Results, "data:           {}", teacher.data_fingerprint)?;
    }
    writeln!(
        Results,
        "service:        teacher-service {}",
        teacher.service_version
    )?;
    Ok(())
}

async fn request_description(
    address: &str,
    credentials: &Credentials,
) -> anyhow::Result<DescribeResponse> {
    let channel = credentials.connect(address).await;
    let channel = channel.map_err(|error| anyhow!("cannot connect to {address}: {error}"))?;
    let response = TeacherServiceClient::new(channel)
        .describe(DescribeRequest {})
        .await
        .map_err(|status| anyhow!("{address} answered: {}", credentials.reason(&status)))?;
    Ok(response.into_inner())
}
