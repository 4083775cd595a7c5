//! The running service: ports, health, metrics, and how it stops.

use std::{io, path::Path, time::Duration};

use common::{
    grpc,
    listen::{ArrivalLimit, InTime, limit},
    metrics_server,
    ready_file::ReadyFile,
    security::{Rules, Scope, Security, SecurityError},
};
use proto::teacher::v1::teacher_service_server::SERVICE_NAME;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use crate::{
    backend::RetortNetwork,
    compute::{Compute, StartError},
    config::TeacherConfig,
    metrics::{self, Open},
    service::Teacher,
    stream::Stopping,
};

/// After the streams were cut, how long their connections may still take.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// How long the batch that is being computed may still take.
const LAST_BATCH: Duration = Duration::from_secs(30);

/// HTTP/2 flow control: enough for several batches on the way, so that one stream fills a link; and
/// the most that a connection may send without being read.
pub(crate) const WINDOW_BYTES: u32 = 4 << 20;

/// Calls at a time on one connection: a trainer needs three, its stream, a call, and a watch on the
/// service's health.
const MAX_CALLS_PER_CONNECTION: u32 = 16;

/// Longest headers of a call.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Calls of more than one message.
const STREAMS: [(&str, InTime); 1] = [(
    "/retort.teacher.v1.TeacherService/StreamSoftTargets",
    InTime::EachMessage,
)];

/// Logits are all that a teacher gives away.
const RULES: Rules = Rules::grpc(&[Scope::SoftTargets], &[]);

/// Why the service does not run, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A port is taken, or a certificate, key or tokens file cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// There is no teacher.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something counts in this process already.
    #[error("cannot start the metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The ready file cannot be written.
    #[error(transparent)]
    ReadyFile(io::Error),
    /// The reflection service refuses the descriptors.
    #[error("cannot offer reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The gRPC server failed.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The compute thread ended by itself; the log says why.
    #[error("the compute thread stopped by a fault")]
    ComputeStopped,
}

/// Serves until `shutdown`, then finishes what is in flight, within the configured time.
///
/// Binds before it loads, so that a taken port is known at once; serves, and writes `ready_file`,
/// after.
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
    let metrics_port = security.bind(config.metrics_port(), Rules::METRICS).await?;
    let (grpc_address, metrics_address) = (grpc_port.address, metrics_port.address);
    let recorder = metrics::install()?;
    let (artifact, compute_config) = (config.artifact.clone(), config.compute.clone());
    let load = Compute::start(config.grpc.max_queued_bytes, move || {
        RetortNetwork::load(&artifact, &compute_config)
    });
    let compute = tokio::select! {
        compute = load => compute?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let identity = &compute.description().identity;
    info!(
        model_id = identity.model_id,
        numerics = identity.numerics,
        "teacher loaded"
    );

    tokio::spawn(metrics_server::serve(metrics_port, recorder));
    let stopping = Stopping::default();
    let teacher = Teacher::service(compute.clone(), &config.grpc, stopping.clone());
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in HEALTH_SERVICES {
        health
            .set_service_status(service, ServingStatus::Serving)
            .await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let read_timeout = Duration::from_secs(config.grpc.read_timeout_seconds);
    let server = grpc::server()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(MAX_CALLS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .layer(ArrivalLimit::new(read_timeout, &STREAMS))
        .layer(grpc_port.layer)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(teacher)
        .serve_with_incoming_shutdown(
            limit(
                grpc_port.listener.into_stream(),
                config.grpc.max_connections,
                Open::connection,
            ),
            stopping.drain.clone().cancelled_owned(),
        );
    let mut server = tokio::spawn(server);

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
    // The streams first: a trainer that heard from health alone would end its stream before the
    // teacher could say on it that it drains.
    stopping.drain.cancel();
    stop_serving(health).await;
    let drained = timeout(config.shutdown.drain(), &mut server).await;
    let drained = match drained {
        Ok(ended) => served(ended),
        Err(_) => {
            warn!("not every batch was answered in time; cutting the streams");
            stopping.cut.cancel();
            // A connection that is still open then is dropped with the process.
            timeout(LAST_GRACE, server).await.map_or(Ok(()), served)
        }
    };
    compute.close();
    // libtorch's own teardown must not run beside a batch that is being computed.
    if timeout(LAST_BATCH, compute.stopped()).await.is_err() {
        warn!("a batch is still being computed; leaving it");
    }
    info!("stopped");
    drained
}

/// Names by which health is asked for; the empty one stands for the whole server.
const HEALTH_SERVICES: [&str; 2] = ["", SERVICE_NAME];

/// Tells who watches, and then ends their watches: a watch that stays open would hold the server up.
async fn stop_serving(mut health: HealthReporter) {
    for service in HEALTH_SERVICES {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
        health.clear_service_status(service).await;
    }
}

fn served(
    ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
) -> Result<(), ServerError> {
    match ended {
        Ok(result) => Ok(result?),
        // The task is never aborted, so it panicked: go on panicking here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
