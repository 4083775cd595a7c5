//! Runs over gRPC: submitted, queued, done one at a time, watched and cancelled. The queue is on
//! disk: a service that is started again goes on where the one before was interrupted.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use common::{
    ready_file::ReadyFile,
    slow_work,
    writable_folder::{self, FolderError},
};
use proto::runs::v1::run_service_server::{RunServiceServer, SERVICE_NAME};
use server::{
    grpc as edge,
    health::Health,
    listen::{ArrivalLimit, http2},
    metrics_server,
    security::{GuardedPort, Rules, Scope, Security, SecurityError},
};
use tokio::{
    runtime::Handle,
    task::{self, JoinError, JoinHandle},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::{AllowedFolders, RunConfig, TrainerConfig},
    metrics,
    run::{self, ResumePolicy, RunContext, RunError},
};
use grpc::RunServer;
use queue::{RunQueue, Work, WorkOutcome};

mod error;
mod event_log;
mod folder;
mod grpc;
mod queue;
mod record;
mod store;

/// Runs are one right: whoever may submit them may also see and stop them.
const RULES: Rules = Rules::grpc(&[Scope::Runs], &[]);

/// Why the service did not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken, or a certificate, key or tokens file cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Runs could not be kept.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Something counts in this process already.
    #[error("cannot start the metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The queue of an earlier service cannot be taken up.
    #[error("cannot use the queue of runs: {}: {problem}", path.display())]
    RunsFolder {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Two services would do the same runs.
    #[error(
        "another student-trainer serves the runs in {}; stop it, or set runs_folder",
        .0.display()
    )]
    RunsFolderInUse(PathBuf),
    /// The operating system lets nobody listen for signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// No thread for the runs.
    #[error("cannot start the thread that does the runs: {0}")]
    Thread(io::Error),
    /// The ready file; the error names it.
    #[error("{0}")]
    ReadyFile(io::Error),
    /// The connection handling failed.
    #[error("the gRPC server failed: {0}")]
    Transport(String),
    /// Reflection could not be set up from the compiled-in descriptors.
    #[error("cannot set up reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves `retort.runs.v1`, health and reflection until a signal of [`common::shutdown`]. `ready_file`
/// (see [`common::ready_file`]) is there while it serves.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(config: TrainerConfig, ready_file: Option<&Path>) -> Result<(), ServeError> {
    let shutdown = common::shutdown::on_signal().map_err(ServeError::Signals)?;
    serve_until(config, ready_file, shutdown).await
}

/// As [`serve`], until `shutdown` is cancelled: then health says NOT_SERVING, new runs are refused,
/// the running one stops at a checkpoint, and watchers are told so before this returns.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve_until(
    config: TrainerConfig,
    ready_file: Option<&Path>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let ready_file = ready_file.map(ReadyFile::prepare).transpose();
    let mut ready_file = ready_file.map_err(ServeError::ReadyFile)?;
    let security = Security::load(config.grpc.tls.as_ref(), &config.auth)?;
    let port = security.bind(config.grpc_port(), RULES).await?;
    let metrics_port = security.bind(config.metrics_port(), Rules::METRICS).await?;
    let addresses = [("grpc", port.address), ("metrics", metrics_port.address)];
    let recorder = metrics::install()?;
    writable_folder::check("runs_folder", &config.runs_folder)?;
    let metrics_server = metrics_server::serve(metrics_port, recorder, security.staleness());
    task::spawn(metrics_server);

    let drained = CancellationToken::new();
    let started = Arc::new(OnceLock::new());
    let runs = RunServer::new(Arc::clone(&started), config.allowed_folders.clone());
    let (health, mut server) = start(&config, port, runs, &drained)?;
    let queue = tokio::select! {
        queue = take_up(&config) => queue?,
        ended = &mut server => return finished(ended),
    };
    let queue = started.get_or_init(|| queue);
    health.set_serving(true);
    announce(addresses, ready_file.as_mut(), &config.runs_folder)?;

    tokio::select! {
        ended = &mut server => return finished(ended),
        () = shutdown.cancelled() => {}
    }
    health.set_serving(false);
    queue.close();
    let drain = async {
        queue.ended().await;
        health.end();
        drained.cancel();
        finished((&mut server).await)
    };
    match time::timeout(config.shutdown.drain(), drain).await {
        Ok(result) => result,
        Err(_) => {
            warn!("stopping although a run or a connection is still open");
            server.abort();
            Ok(())
        }
    }
}

/// Names by which health is asked for, beside the empty one.
const SERVICES: [&str; 1] = [SERVICE_NAME];

/// Starts the gRPC server, which ends after `stop`.
fn start(
    config: &TrainerConfig,
    port: GuardedPort,
    runs: RunServer,
    stop: &CancellationToken,
) -> Result<(Health, JoinHandle<()>), ServeError> {
    let (health, health_service) = Health::new(&SERVICES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let runs = RunServiceServer::new(runs).max_decoding_message_size(config.grpc.max_message_bytes);
    let read_timeout = Duration::from_secs(config.grpc.read_timeout_seconds);
    let router = edge::server()
        // No call about runs takes more than one message.
        .layer(ArrivalLimit::new(read_timeout, &[], stop.clone()))
        .layer(port.layer)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(runs);
    let limit = config.grpc.max_connections;
    let server = http2::serve(port.listener, router, limit, || (), stop.clone());
    Ok((health, task::spawn(server)))
}

/// Reads the queue that an earlier service left, and goes on with it.
async fn take_up(config: &TrainerConfig) -> Result<Arc<RunQueue>, ServeError> {
    let (runs_folder, limits) = (config.runs_folder.clone(), config.queue.clone());
    let work = work(config.allowed_folders.clone(), Handle::current());
    let queue = task::spawn_blocking(move || RunQueue::start(runs_folder, limits, work));
    let runs_folder = config.runs_folder.display();
    let queue = slow_work::reported(queue, |seconds| {
        info!(%runs_folder, seconds, "the queue of runs is still being read");
    });
    match queue.await {
        Ok(queue) => Ok(Arc::new(queue?)),
        // The task is never aborted, so it panicked: go on panicking here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Does a run; its files are below `allowed_folders`, its network traffic goes on in `runtime`.
fn work(allowed_folders: AllowedFolders, runtime: Handle) -> Work {
    Box::new(move |assignment| {
        let config = match RunConfig::from_toml(assignment.config_toml) {
            Ok(config) => config,
            Err(error) => return WorkOutcome::Failed(error.to_string()),
        };
        // Once more: the service may allow less than the one to which the run was submitted.
        if let Err(error) = allowed_folders.check(&config) {
            return WorkOutcome::Failed(error.to_string());
        }
        let context = RunContext {
            folder: assignment.folder,
            resume: ResumePolicy::SameBits,
            events: &assignment.events,
            cancel: &assignment.cancel,
            runtime: &runtime,
        };
        match run::execute(config, context) {
            Ok(_) => WorkOutcome::Succeeded,
            Err(RunError::Cancelled { .. }) => WorkOutcome::Stopped,
            Err(error) => WorkOutcome::Failed(error.to_string()),
        }
    })
}

fn announce(
    addresses: [(&str, SocketAddr); 2],
    file: Option<&mut ReadyFile>,
    runs: &Path,
) -> Result<(), ServeError> {
    let [(_, grpc), (_, metrics)] = addresses;
    info!(%grpc, %metrics, runs_folder = %runs.display(), "student-trainer serves");
    match file {
        Some(file) => file.write(&addresses).map_err(ServeError::ReadyFile),
        None => Ok(()),
    }
}

fn finished(ended: Result<(), JoinError>) -> Result<(), ServeError> {
    ended.map_err(|error| ServeError::Transport(error.to_string()))
}
