//! The `student-trainer` program: executes one run, or serves the run service.

use std::{
    cell::RefCell, ffi::OsString, io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use common::{
    output::Messages,
    telemetry::{self, LogFormat},
};
use fetch_arguments::FetchArguments;
use output_arguments::OutputArguments;
use recording_progress::RecordingProgress;
use server::{
    listen::PortAccess,
    metrics_server,
    program::{self, OtherExit, PeerArguments, ServeArguments, WITHHELD_EXIT_CODE},
    security::{ListenConfig, Rules, Security},
};
use student_trainer::{
    bucket_run::BucketRunError,
    config::{RunConfig, TrainerConfig},
    evaluate,
    events::{EventSink, RunEvent},
    metrics,
    run::{ResumePolicy, RunContext, RunError},
    service,
    soft_targets::record::{self, RecordContext},
};
use tokio::runtime::{Builder, Runtime};
use torch_distributed::{Alone, Workers};
use traces::Span;
use tracing::{info, warn};
use worker_arguments::WorkerArguments;
use worker_group::{GroupArguments, Joined};

mod fetch_arguments;
mod output_arguments;
mod process_environment;
mod progress;
mod recording_progress;
mod worker_arguments;
mod worker_group;

const EXAMPLES: &str = "\
Examples:
  student-trainer run configs/demo/teacher.toml --output runs/teacher
  student-trainer run configs/demo/student.toml --set seed=2 --set 'teacher.endpoints=[\"127.0.0.1:50051\"]'
  student-trainer run student.toml --output s3://my-bucket/runs/student
  student-trainer fetch s3://my-bucket/runs/student student
  torchrun --no-python --nproc-per-node 2 student-trainer run student.toml --set 'phases[0].accumulate=4'
  student-trainer record configs/demo/student.toml --set soft_targets.folder=targets --set soft_targets.views=4
  student-trainer record configs/demo/student.toml --set soft_targets.folder=targets --set soft_targets.views=4 \\
      --index 0 --of 8
  student-trainer serve --set grpc.listen=127.0.0.1:0 --ready-file trainer.json
  student-trainer healthcheck 127.0.0.1:50052
  student-trainer evaluate --data .deps/fashion-mnist --model teacher=runs/teacher --teacher teacher \\
      --output evaluation.json";

/// Trains teachers and distils students.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    /// Format of the log on standard error.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Executes one run and exits. Resumes an interrupted run in the same folder from its last checkpoint.
    ///
    /// With the URL of a bucket as --output, it works in a folder of this machine, and copies the folder to the bucket after
    /// each checkpoint. Another machine can resume it, once the lease of the first trainer has ended.
    ///
    /// Several processes that torchrun or Kubeflow Trainer starts do one run together; the one with rank 0 has the output.
    ///
    /// The exit code is 3 if the run is complete and [publish.gate] withheld its model.
    Run(RunArguments),
    /// Downloads a run from a bucket into a folder, also while a trainer works on it.
    Fetch(FetchArguments),
    /// Records a teacher's soft targets ahead of a run.
    ///
    /// Needs [teacher], and in [soft_targets] a folder and the number of views. After an interruption, the
    /// same command records the missing shards. Several workers can record together: see --index.
    Record(RecordArguments),
    /// Serves the run service: clients submit, watch and cancel runs; runs are executed one at a time.
    Serve(Serve),
    /// Asks a running service whether it is serving; exit code 0 or 1.
    #[command(mut_arg("address", |address| address.default_value("127.0.0.1:50052")))]
    Healthcheck(PeerArguments),
    /// Evaluates models on the test split, in f32.
    Evaluate(evaluate::EvaluateArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// TOML file with the run's configuration; it overrides the defaults of configs/run.toml.
    config: PathBuf,
    #[command(flatten)]
    output: OutputArguments,
    /// Overrides one key of the configuration; may be repeated. The value of a text key is plain text or a
    /// quoted TOML string; for any other key it is TOML.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    overrides: Vec<OsString>,
    /// Serves Prometheus metrics on http://HOST:PORT/metrics, without authentication, during the run; of several workers,
    /// the one with rank 0 does.
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<SocketAddr>,
    /// Resumes from a checkpoint even if threads, precision or numerics differ; the run is marked as not
    /// bit-reproducible.
    #[arg(long)]
    allow_other_bits: bool,
    /// Exit code if a signal stopped the run before it was complete. A Job of Kubernetes takes 0 for a complete run, also
    /// when it evicts the pod.
    #[arg(long, value_name = "CODE", default_value_t = 0)]
    stopped_exit_code: u8,
    #[command(flatten)]
    group: GroupArguments,
}

#[derive(Debug, Args)]
struct RecordArguments {
    /// TOML file with a run's configuration; it overrides the defaults of configs/run.toml.
    config: PathBuf,
    /// Overrides one key of the configuration; may be repeated. The value of a text key is plain text or a
    /// quoted TOML string; for any other key it is TOML.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    overrides: Vec<OsString>,
    #[command(flatten)]
    worker: WorkerArguments,
}

#[derive(Debug, Args)]
struct Serve {
    /// Folder of the runs, or the URL of a prefix in a bucket; takes precedence over --set runs_folder=DIR.
    #[arg(long, value_name = "DIR")]
    runs_folder: Option<PathBuf>,
    #[command(flatten)]
    service: ServeArguments,
}

const NAME: &str = "student-trainer";

fn main() -> ExitCode {
    program::run(NAME, execute)
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let _log = telemetry::init(cli.log_format);
    // A health check and a download compute nothing, and restarting the process would double its cost.
    let computes = !matches!(cli.command, Command::Healthcheck(_) | Command::Fetch(_));
    if computes && let Err(error) = process_environment::prepare() {
        warn!(%error, "training will be slower than it could be");
    }
    // Not for a health check either, which is over before anything could be sent.
    let _traces = computes.then(|| traces::init(NAME)).transpose()?;
    let mut runtime = Builder::new_multi_thread();
    program::with_runtime(runtime.worker_threads(2), |runtime| {
        execute_on(runtime, cli.command)
    })?
}

fn execute_on(runtime: &Runtime, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(arguments) => train(&arguments, runtime),
        Command::Fetch(arguments) => {
            let cancel = program::shutdown_token(runtime)?;
            arguments.fetch(&cancel)
        }
        Command::Record(arguments) => record_soft_targets(&arguments, runtime),
        Command::Serve(arguments) => {
            let config = arguments.service.load(|config: &mut TrainerConfig| {
                if let Some(folder) = &arguments.runs_folder {
                    config.runs_folder.clone_from(folder);
                }
            })?;
            let shutdown = program::shutdown_token(runtime)?;
            let ready_file = arguments.service.ready_file.as_deref();
            Ok(runtime.block_on(service::serve(config, ready_file, shutdown))?)
        }
        Command::Healthcheck(peer) => Ok(peer.healthcheck()?),
        Command::Evaluate(arguments) => {
            let cancel = program::shutdown_token(runtime)?;
            Ok(evaluate::evaluate(&arguments, &cancel, runtime.handle())?)
        }
    }
}

fn train(arguments: &RunArguments, runtime: &Runtime) -> anyhow::Result<()> {
    let config = RunConfig::load(&arguments.config, &arguments.overrides)?;
    let output = arguments.output.of_run(&arguments.config)?;
    let cancel = program::shutdown_token(runtime)?;
    let joined = runtime.block_on(arguments.group.join(&cancel))?;
    let workers: &dyn Workers = match &joined {
        Joined::Group(group) => group,
        Joined::Alone => &Alone,
        Joined::Stopped(rendezvous) => {
            let message = format!("{rendezvous} stopped before all others were there");
            return stopped(message, arguments.stopped_exit_code);
        }
    };
    let leads = workers.rank() == 0;
    if let Some(address) = arguments.metrics.filter(|_| leads) {
        let port = ListenConfig {
            table: "metrics",
            listen: address,
            // The flag names the address explicitly.
            access: PortAccess::AnyoneWhoReachesThePort,
        };
        let security = Security::default();
        let port = runtime.block_on(security.bind(port, Rules::METRICS))?;
        let recorder = metrics::install()?;
        info!(metrics = %port.address, "serving metrics");
        runtime.spawn(metrics_server::serve(port, recorder, security.staleness()));
    }
    let events = if leads {
        progress::sink(std::io::stderr().is_terminal())
    } else {
        worker_group::notices_of(workers.rank())
    };
    let span = Span::begin("run");
    let _entered = span.enter();
    let context = RunContext {
        folder: output.folder(),
        resume: if arguments.allow_other_bits {
            ResumePolicy::OtherBits
        } else {
            ResumePolicy::SameBits
        },
        events: &events,
        cancel: &cancel,
        workers,
        bucket: None,
        runtime: runtime.handle(),
    };
    match output.execute(config, context) {
        Ok(_) if !leads => {}
        Ok(_) => writeln!(Messages, "the run is in {output}"),
        Err(withheld @ RunError::Withheld(_)) => {
            return Err(OtherExit {
                code: WITHHELD_EXIT_CODE,
                message: withheld.to_string(),
            }
            .into());
        }
        // A signal stopped the run, which is not a failure.
        Err(RunError::Cancelled { .. }) if !leads => {
            let message = format!("worker {} stopped", workers.rank());
            return stopped(message, arguments.stopped_exit_code);
        }
        Err(
            error @ (RunError::Cancelled { .. } | RunError::Bucket(BucketRunError::Stopped { .. })),
        ) => return stopped(error.to_string(), arguments.stopped_exit_code),
        Err(error) => {
            span.fail(&error);
            return Err(error.into());
        }
    }
    Ok(())
}

/// The end of a run that a signal stopped.
fn stopped(message: String, code: u8) -> anyhow::Result<()> {
    if code == 0 {
        writeln!(Messages, "{message}");
        return Ok(());
    }
    Err(OtherExit { code, message }.into())
}

fn record_soft_targets(arguments: &RecordArguments, runtime: &Runtime) -> anyhow::Result<()> {
    let worker = arguments.worker.worker()?;
    let config = RunConfig::load(&arguments.config, &arguments.overrides)?;
    let cancel = program::shutdown_token(runtime)?;
    let notices = EventSink::new(|event| {
        if let RunEvent::Notice { text } = event {
            writeln!(Messages, "{text}");
        }
    })
    .notices();
    let progress = RefCell::new(RecordingProgress::new(std::io::stderr().is_terminal()));
    let context = RecordContext {
        config: &config,
        worker,
        notices: &notices,
        cancel: &cancel,
        runtime: runtime.handle(),
    };
    let recorded = record::record(
        context,
        |plan| progress.borrow_mut().begin(plan),
        |work, done| progress.borrow_mut().show(work, done),
    );
    progress.borrow().finish();
    for summary in recorded? {
        RecordingProgress::summarize(&summary);
    }
    Ok(())
}
