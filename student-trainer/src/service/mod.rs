//! Runs over gRPC: clients submit, watch and cancel runs; the service executes them one at a time. The
//! queue is on disk or in a bucket, so a restarted service continues where it was interrupted.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use common::{ready_file::ReadyFile, slow_work};
use proto::runs::v1::run_service_server::{RunServiceServer, SERVICE_NAME};
use server::{
    grpc as edge,
    health::Health,
    listen::{ArrivalLimit, http2},
    metrics_server,
    security::{GuardedPort, Rules, Scope, Security},
    trace_layer::{TraceLayer, TracedProtocol},
};
use tokio::{
    runtime::Handle,
    task::{self, JoinError, JoinHandle},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{bucket_run::BucketRunError, config::TrainerConfig, metrics};
use grpc::RunServer;
use home::RunsHome;
use queue::RunQueue;

pub use serve_error::ServeError;

mod error;
mod event_log;
mod execution;
mod grpc;
mod home;
mod queue;
mod queued_run;
mod run_folders;
mod run_id;
mod serve_error;
mod store;
pub(crate) mod stored_run;

/// One scope covers all calls: a client that may submit runs may also watch and cancel them.
const RULES: Rules = Rules::grpc(&[Scope::Runs], &[]);

/// Serves `retort.runs.v1`, health and reflection until `shutdown` is cancelled. Then health reports
/// NOT_SERVING, the service rejects new runs, and the running one stops at a checkpoint; its watchers get
/// that state before this returns. `ready_file` (see [`common::ready_file`]) exists while it serves.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    config: TrainerConfig,
    ready_file: Option<&Path>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let ready_file = ready_file.map(ReadyFile::prepare).transpose();
    let mut ready_file = ready_file.map_err(ServeError::ReadyFile)?;
    // Also cancelled if another service takes the queue over.
    let stop = shutdown.child_token();
    let _ends = stop.clone().drop_guard();
    let home = RunsHome::of(&config, &stop)?;
    let security = Security::load(config.grpc.tls.as_ref(), &config.auth)?;
    let port = security.bind(config.grpc_port(), RULES).await?;
    let metrics_port = security.bind(config.metrics.port(), Rules::METRICS).await?;
    let addresses = [("grpc", port.address), ("metrics", metrics_port.address)];
    let recorder = metrics::install()?;
    home.check()?;
    let metrics_server = metrics_server::serve(metrics_port, recorder, security.staleness());
    task::spawn(metrics_server);

    let drained = CancellationToken::new();
    let started = Arc::new(OnceLock::new());
    let runs = RunServer::new(Arc::clone(&started), config.allowed_folders.clone());
    let (health, mut server) = start(&config, port, runs, &drained)?;
    let queue = tokio::select! {
        queue = restore_queue(&config, home) => match queue {
            // A signal ended the wait for the queue.
            Err(ServeError::Bucket(BucketRunError::Stopped { .. })) => return Ok(()),
            queue => queue?,
        },
        ended = &mut server => return server_result(ended),
    };
    let queue = started.get_or_init(|| queue);
    health.set_serving(true);
    announce(addresses, ready_file.as_mut(), &config.runs_folder)?;

    tokio::select! {
        ended = &mut server => return server_result(ended),
        () = stop.cancelled() => {}
    }
    let is_taken_over = !shutdown.is_cancelled();
    health.set_serving(false);
    let closing = Arc::clone(queue);
    let drain = async {
        // The locks of the queue may be held while a file is written.
        let closed = task::spawn_blocking(move || closing.close()).await;
        // The task is never aborted, so it panicked: continue the panic here.
        closed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        queue.ended().await;
        health.end();
        drained.cancel();
        server_result((&mut server).await)
    };
    match time::timeout(config.shutdown.drain(), drain).await {
        Ok(result) => result?,
        Err(_) => {
            warn!("stopping although a run or a connection is still open");
            server.abort();
        }
    }
    if is_taken_over {
        return Err(ServeError::RunsTakenOver(config.runs_folder));
    }
    Ok(())
}

/// Service names that health checks accept, beside the empty one.
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
        .layer(TraceLayer(TracedProtocol::Grpc))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(runs);
    let limit = config.grpc.max_connections;
    let server = http2::serve(port.listener, router, limit, || (), stop.clone());
    Ok((health, task::spawn(server)))
}

/// Reads the queue of an earlier service and continues its runs.
async fn restore_queue(
    config: &TrainerConfig,
    home: RunsHome,
) -> Result<Arc<RunQueue>, ServeError> {
    let limits = config.queue.clone();
    let execute = execution::execute_run(config.allowed_folders.clone(), Handle::current());
    let queue = task::spawn_blocking(move || RunQueue::start(home, limits, execute));
    let runs_folder = config.runs_folder.display();
    let queue = slow_work::reported(queue, |seconds| {
        info!(%runs_folder, seconds, "the queue of runs is still being read");
    });
    match queue.await {
        Ok(queue) => Ok(Arc::new(queue?)),
        // The task is never aborted, so it panicked: continue the panic here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
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

fn server_result(ended: Result<(), JoinError>) -> Result<(), ServeError> {
    ended.map_err(|error| ServeError::Transport(error.to_string()))
}
