//! The running service: ports, health, metrics, and how it stops.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use common::{ready_file::ReadyFile, slow_work};
use datasets::DatasetError;
use proto::teacher::v1::teacher_service_server::{SERVICE_NAME, TeacherServiceServer};
use server::{
    grpc,
    health::Health,
    listen::{ArrivalLimit, TimedUnit, http2},
    metrics_server,
    security::{GuardedPort, Rules, Scope, Security, SecurityError},
    trace_layer::{TraceLayer, TracedProtocol},
};
use tokio::{
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    backend::{self, Readiness},
    compute::{Compute, StartError},
    config::TeacherConfig,
    data_config::DataConfig,
    loaded_teacher::LoadedTeacher,
    metrics::{self, Open},
    service::Teacher,
    shared_data::SharedData,
    stream::Stopping,
};

/// Longest time for connections to end after their streams were closed.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Longest time for the current batch after the streams have ended.
const LAST_BATCH: Duration = Duration::from_secs(30);

/// Window of HTTP/2's flow control: large enough for several batches in flight, so that one stream can use the
/// whole bandwidth of a link. It also limits the unread data of a connection.
pub const WINDOW_BYTES: u32 = 4 << 20;

/// Concurrent calls on one connection. A trainer needs three: its stream, a call, and a health watch.
const MAX_CALLS_PER_CONNECTION: u32 = 16;

/// Streaming calls.
const STREAMS: [(&str, TimedUnit); 1] = [(
    "/retort.teacher.v1.TeacherService/StreamSoftTargets",
    // The service answers batches that the trainer sent before it received Draining.
    TimedUnit::MessageUntilServiceEnds,
)];

/// One scope covers all calls.
const RULES: Rules = Rules::grpc(&[Scope::SoftTargets], &[]);

/// Why the service did not start, or stopped unexpectedly.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A port is in use, or a certificate, key or tokens file cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The teacher cannot be loaded.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The data set of `[data]` cannot be used.
    #[error("[data]: {0}")]
    Data(#[from] DatasetError),
    /// The process has a metrics recorder already.
    #[error("cannot start the metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The ready file cannot be written.
    #[error(transparent)]
    ReadyFile(io::Error),
    /// The reflection service rejects the descriptors.
    #[error("cannot offer reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The compute thread panicked; the log contains the reason.
    #[error("the compute thread stopped unexpectedly")]
    ComputeStopped,
}

/// The service names of health checks, in addition to the empty one.
const SERVICES: [&str; 1] = [SERVICE_NAME];

/// Serves until `shutdown`, then finishes the batches in flight within the configured time.
///
/// While the teacher is being loaded, health, reflection and metrics answer; health reports NOT_SERVING, and
/// other calls get UNAVAILABLE. Writes `ready_file` when the teacher is loaded.
///
/// # Errors
/// See [`ServerError`].
pub async fn run(
    config: &TeacherConfig,
    ready_file: Option<&Path>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let ready_file = ready_file.map(ReadyFile::prepare).transpose();
    let mut ready_file = ready_file.map_err(ServerError::ReadyFile)?;
    let security = Security::load(config.grpc.tls.as_ref(), &config.auth)?;
    let grpc_port = security.bind(config.grpc_port(), RULES).await?;
    let metrics_port = security.bind(config.metrics.port(), Rules::METRICS).await?;
    let (grpc_address, metrics_address) = (grpc_port.address, metrics_port.address);
    let recorder = metrics::install()?;
    let metrics_server = metrics_server::serve(metrics_port, recorder, security.staleness());
    tokio::spawn(metrics_server);

    let stopping = Stopping::default();
    let loaded = Arc::new(OnceLock::new());
    let teacher = Teacher::service(Arc::clone(&loaded), &config.grpc, stopping.clone());
    let (health, mut server) = serve(config, grpc_port, teacher, &stopping)?;
    let teacher = tokio::select! {
        teacher = load(config) => teacher?,
        () = shutdown.cancelled() => {
            health.end();
            stopping.drain.cancel();
            return drain(config, &stopping, server).await;
        }
        ended = &mut server => return served(ended),
    };
    let LoadedTeacher { compute, .. } = loaded.get_or_init(|| teacher);
    let identity = &compute.description().identity;
    info!(
        model_id = identity.model_id,
        numerics = identity.numerics,
        "teacher loaded"
    );
    health.set_serving(true);
    if let Some(readiness) = compute.readiness() {
        tokio::spawn(follow(readiness, health.clone(), stopping.drain.clone()));
    }
    if let Some(file) = &mut ready_file {
        let addresses = [("grpc", grpc_address), ("metrics", metrics_address)];
        file.write(&addresses).map_err(ServerError::ReadyFile)?;
    }
    info!(grpc = %grpc_address, metrics = %metrics_address, "serving");

    tokio::select! {
        () = shutdown.cancelled() => {}
        () = compute.stopped() => return Err(ServerError::ComputeStopped),
        ended = &mut server => return served(ended),
    }
    // The streams first: a trainer that learned of the shutdown from health alone would end its stream before it
    // received Draining.
    stopping.drain.cancel();
    health.end();
    let drained = drain(config, &stopping, server).await;
    compute.close();
    // libtorch's teardown must not run while a batch is being computed.
    if timeout(LAST_BATCH, compute.stopped()).await.is_err() {
        warn!("a batch is still being computed; leaving it");
    }
    info!("stopped");
    drained
}

/// Starts the gRPC server, which ends after `stopping`.
fn serve(
    config: &TeacherConfig,
    port: GuardedPort,
    teacher: TeacherServiceServer<Teacher>,
    stopping: &Stopping,
) -> Result<(Health, JoinHandle<()>), ServerError> {
    let (health, health_service) = Health::new(&SERVICES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let read_timeout = Duration::from_secs(config.grpc.read_timeout_seconds);
    let stop = stopping.drain.clone();
    let router = grpc::server()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(MAX_CALLS_PER_CONNECTION)
        .layer(ArrivalLimit::new(read_timeout, &STREAMS, stop.clone()))
        .layer(port.layer)
        .layer(TraceLayer(TracedProtocol::Grpc))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(teacher);
    let limit = config.grpc.max_connections;
    let server = http2::serve(port.listener, router, limit, Open::connection, stop);
    Ok((health, tokio::spawn(server)))
}

/// Opens the data, and loads the teacher on the compute thread.
async fn load(config: &TeacherConfig) -> Result<LoadedTeacher, ServerError> {
    let data = match &config.data {
        Some(data) => Some(open_data(data).await?),
        None => None,
    };
    let compute = load_model(config).await?;
    Ok(LoadedTeacher { compute, data })
}

async fn open_data(config: &DataConfig) -> Result<SharedData, ServerError> {
    let (path, config) = (config.path.display(), config.clone());
    let open = tokio::task::spawn_blocking(move || SharedData::open(&config));
    let opened = slow_work::reported(open, |seconds| {
        info!(%path, seconds, "the data is still being read");
    });
    // The task is never aborted, so it panicked: resume the panic.
    let opened = opened
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let data = opened?;
    info!(
        samples = data.samples(),
        fingerprint = data.fingerprint(),
        "trainers with the same data may send references to it"
    );
    Ok(data)
}

async fn load_model(config: &TeacherConfig) -> Result<Compute, StartError> {
    let (model, compute_config) = (config.model.clone(), config.compute.clone());
    let load = Compute::start(config.grpc.max_queued_bytes, move || {
        backend::open(&model, &compute_config)
    });
    let model = config.model.path.display();
    slow_work::reported(load, |seconds| {
        info!(%model, seconds, "the teacher is still being loaded");
    })
    .await
}

/// Reports the readiness of a model on another server as the service's own, until the service stops.
async fn follow(mut readiness: Readiness, health: Health, stop: CancellationToken) {
    loop {
        let ready = *readiness.borrow_and_update();
        if stop.is_cancelled() {
            return;
        }
        health.set_serving(ready);
        let changed = stop.run_until_cancelled(readiness.changed()).await;
        if !matches!(changed, Some(Ok(()))) {
            return;
        }
        let ready = *readiness.borrow();
        info!(ready, "the model's inference server reports its readiness");
    }
}

/// Waits for the batches in flight, within the configured time.
async fn drain(
    config: &TeacherConfig,
    stopping: &Stopping,
    mut server: JoinHandle<()>,
) -> Result<(), ServerError> {
    match timeout(config.shutdown.drain(), &mut server).await {
        Ok(ended) => served(ended),
        Err(_) => {
            warn!("not every batch was answered in time; closing the streams");
            stopping.cut.cancel();
            // The end of the process closes connections that are still open.
            timeout(LAST_GRACE, server).await.map_or(Ok(()), served)
        }
    }
}

fn served(ended: Result<(), JoinError>) -> Result<(), ServerError> {
    match ended {
        Ok(()) => Ok(()),
        // The task is never aborted, so it panicked: resume the panic.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
