//! The running service: ports, health, and how it stops.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::{
    grpc,
    listen::{
        self, ArrivalLimit, InTime,
        http1::{self, ConnectionLimits},
    },
    metrics_server,
    model_store::{ModelStore, StoreError},
    ready_file::ReadyFile,
    security::{GuardedPort, Rules, Security, SecurityError},
    writable_folder::{self, FolderError},
};
use futures::FutureExt;
use onnx_runtime::LibraryError;
use proto::{
    inference::grpc_inference_service_server,
    predict::v1::predictor_service_server::{self, PredictorServiceServer},
    publish::v1::publisher_service_server::{self, PublisherServiceServer},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, health_reporter},
};
use tracing::{info, warn};

use crate::{
    access,
    catalog::Catalog,
    classification::{Classifier, PredictorEdge},
    config::InferenceConfig,
    error::PublishError,
    grpc::{InferenceEdge, InferenceServer, Reasons},
    http,
    inference::Inference,
    metrics,
    publisher::{Publisher, PublisherEdge},
    refusals::Refusals,
};

/// Calls of more than one message.
const STREAMS: [(&str, InTime); 2] = [
    (
        "/inference.GRPCInferenceService/ModelStreamInfer",
        InTime::EachMessage,
    ),
    (
        "/retort.publish.v1.PublisherService/Publish",
        InTime::EachPart,
    ),
];

/// Why the service does not run, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A port is taken, or a certificate, key or tokens file cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// ONNX Runtime is missing.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The model store cannot be written to.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The model store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored models cannot be read.
    #[error("cannot load the stored models: {0}")]
    Restore(#[source] PublishError),
    /// The reflection service refuses the descriptors.
    #[error("cannot offer reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The ready file cannot be written.
    #[error(transparent)]
    ReadyFile(io::Error),
    /// A server failed.
    #[error("the {0} server stopped by itself")]
    Stopped(&'static str),
}

/// Serves until `shutdown`, then finishes what is in flight, within the configured time.
///
/// Binds before it loads, so that a taken port is known at once; serves, and writes `ready_file`,
/// when every stored model has been loaded.
///
/// # Errors
/// See [`ServerError`].
pub async fn run(
    config: &InferenceConfig,
    ready_file: Option<&Path>,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let ready_file = ready_file.map(ReadyFile::prepare).transpose();
    let mut ready_file = ready_file.map_err(ServerError::ReadyFile)?;
    let ports = Ports::bind(config).await?;
    let addresses = ports.addresses;
    onnx_runtime::load_library()?;

    let catalog = Arc::new(Catalog::default());
    writable_folder::check("store", &config.store)?;
    let store = ModelStore::open(&config.store)?;
    let publisher = Arc::new(Publisher::new(store, Arc::clone(&catalog), config));
    tokio::select! {
        restored = publisher.restore() => restored.map_err(ServerError::Restore)?,
        () = shutdown.cancelled() => return Ok(()),
    }

    let stop = CancellationToken::new();
    let inference = Arc::new(Inference::new(Arc::clone(&catalog), config.log.access));
    let edge = |publisher: Option<&Arc<Publisher>>| InferenceEdge {
        inference: Arc::clone(&inference),
        publisher: publisher.map(Arc::clone),
        stop: stop.clone(),
    };
    let admin_edge = edge(Some(&publisher));
    let classifier = Arc::new(Classifier::new(&config.images));
    let predictor = PredictorEdge {
        inference: Arc::clone(&inference),
        classifier: Arc::clone(&classifier),
    };
    let refusals = Refusals::default();
    let router = http::router(Arc::clone(&inference), classifier, &config.http)
        .layer(ports.http.layer)
        .layer(refusals.clone());
    let http_server = http1::serve(
        ports.http.listener,
        http::wait_for_bodies(router, &config.http),
        ConnectionLimits {
            connections: config.http.max_connections,
            header_time: Duration::from_secs(config.http.read_timeout_seconds),
        },
        stop.clone(),
    );
    let metrics_server = http1::serve(
        ports.metrics.listener,
        metrics::router(catalog, refusals.clone()).layer(ports.metrics.layer),
        metrics_server::CONNECTIONS,
        stop.clone(),
    );
    let (health, mut servers) = start_grpc(
        config,
        (ports.grpc, edge(None), predictor),
        (ports.admin, admin_edge, PublisherEdge::new(publisher)),
        &refusals,
        &stop,
    )?;
    for server in [http_server.boxed(), metrics_server.boxed()] {
        servers.spawn(server.map(Ok));
    }

    set_health(&health, ServingStatus::Serving).await;
    if let Some(file) = &mut ready_file {
        file.write(&addresses).map_err(ServerError::ReadyFile)?;
    }
    let [(_, grpc), (_, http), (_, admin), (_, metrics)] = addresses;
    info!(%grpc, %http, %admin, %metrics, "serving");

    tokio::select! {
        () = shutdown.cancelled() => {}
        Some(ended) = servers.join_next() => {
            // A panic has said more in the log.
            let name = ended.ok().and_then(Result::err).unwrap_or("gRPC");
            return Err(ServerError::Stopped(name));
        }
    }
    inference.ready.store(false, Ordering::Relaxed);
    set_health(&health, ServingStatus::NotServing).await;
    sleep(config.shutdown.grace()).await;
    stop.cancel();
    let drained = timeout(config.shutdown.drain(), async {
        while servers.join_next().await.is_some() {}
    });
    match drained.await {
        Ok(()) => info!("stopped"),
        Err(_) => warn!("stopped; not every request was answered in time"),
    }
    Ok(())
}

/// Each server, until it ends: with its name where it failed.
type Servers = JoinSet<Result<(), &'static str>>;

/// Starts the two gRPC servers, which end after `stop` when the last call has been answered.
fn start_grpc(
    config: &InferenceConfig,
    (grpc_port, inference, predictor): (GuardedPort, InferenceEdge, PredictorEdge),
    (admin_port, admin, publisher): (GuardedPort, InferenceEdge, PublisherEdge),
    refusals: &Refusals,
    stop: &CancellationToken,
) -> Result<(HealthReporter, Servers), ServerError> {
    let limit = config.grpc.max_message_bytes;
    let [inference, admin] = [inference, admin].map(|edge| InferenceServer::new(edge, limit));
    let predictor = PredictorServiceServer::new(predictor)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let publisher = PublisherServiceServer::new(publisher)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let (reporter, health) = health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(grpc_inference_service_server::SERVICE_NAME)
            .with_service_name("grpc.health.v1.Health")
    };
    // Older clients, grpcio's own among them, know the first version only.
    let inference_reflection =
        || reflection().with_service_name(predictor_service_server::SERVICE_NAME);
    let admin_reflection =
        || reflection().with_service_name(publisher_service_server::SERVICE_NAME);
    let read_timeout = Duration::from_secs(config.grpc.read_timeout_seconds);
    let arrival = ArrivalLimit::new(read_timeout, &STREAMS);
    let connections = config.grpc.max_connections;
    let inference_server = grpc::server()
        .layer(arrival)
        .layer(refusals.clone())
        .layer(grpc_port.layer)
        .layer(Reasons)
        .layer(inference.direct)
        .add_service(inference.routed)
        .add_service(predictor)
        .add_service(health.clone())
        .add_service(inference_reflection().build_v1()?)
        .add_service(inference_reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(
            listen::limit(grpc_port.listener.into_stream(), connections, || ()),
            stop.clone().cancelled_owned(),
        );
    let admin_server = grpc::server()
        .layer(arrival)
        .layer(refusals.clone())
        .layer(admin_port.layer)
        .layer(Reasons)
        .layer(admin.direct)
        .add_service(publisher)
        .add_service(admin.routed)
        .add_service(health)
        .add_service(admin_reflection().build_v1()?)
        .add_service(admin_reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(
            listen::limit(admin_port.listener.into_stream(), connections, || ()),
            stop.clone().cancelled_owned(),
        );
    let mut servers = Servers::new();
    servers.spawn(async move { inference_server.await.map_err(|_| "inference") });
    servers.spawn(async move { admin_server.await.map_err(|_| "admin") });
    Ok((reporter, servers))
}

/// For the whole server, which is what most health checks ask for by an empty name, and by service.
async fn set_health(reporter: &HealthReporter, status: ServingStatus) {
    let services = [
        "",
        grpc_inference_service_server::SERVICE_NAME,
        predictor_service_server::SERVICE_NAME,
    ];
    for service in services {
        reporter.set_service_status(service, status).await;
    }
}

/// The ports, taken but not yet served.
struct Ports {
    grpc: GuardedPort,
    http: GuardedPort,
    admin: GuardedPort,
    metrics: GuardedPort,
    /// As the ready file names them, with port 0 resolved.
    addresses: [(&'static str, SocketAddr); 4],
}

impl Ports {
    async fn bind(config: &InferenceConfig) -> Result<Self, ServerError> {
        let security = Security::load(config.grpc.tls.as_ref(), &config.auth)?;
        let grpc = security.bind(config.grpc_port(), access::GRPC).await?;
        let http = security.bind(config.http_port(), access::HTTP).await?;
        let admin = security.bind(config.admin_port(), access::ADMIN).await?;
        let metrics = security.bind(config.metrics_port(), Rules::METRICS).await?;
        let addresses = [
            ("grpc", grpc.address),
            ("http", http.address),
            ("admin", admin.address),
            ("metrics", metrics.address),
        ];
        Ok(Self {
            grpc,
            http,
            admin,
            metrics,
            addresses,
        })
    }
}
