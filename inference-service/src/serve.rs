//! The running service: ports, health, and how it stops.

use std::{future, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use artifacts::model_store::{ModelStore, StoreError};
use common::{
    ready_file::ReadyFile,
    writable_folder::{self, FolderError},
};
use futures::FutureExt;
use onnx_runtime::LibraryError;
use proto::{
    inference::grpc_inference_service_server,
    predict::v1::predictor_service_server::{self, PredictorServiceServer},
    publish::v1::publisher_service_server::{self, PublisherServiceServer},
};
use server::{
    grpc,
    health::{Health, HealthService},
    listen::{
        ArrivalLimit, TimedUnit,
        http1::{self, ConnectionLimits},
        http2,
    },
    metrics_server,
    security::{GuardedPort, Rules, Security, SecurityError, Staleness},
};
use tokio::{
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic_health::pb::health_server::HealthServer;
use tracing::{info, warn};

use crate::{
    catalog::Catalog,
    classification::{Classifier, PredictorEdge},
    config::{InferenceConfig, ModelControl},
    error::PublishError,
    grpc::{InferenceEdge, InferenceServer, Reasons},
    http,
    inference::Inference,
    metrics, port_rules,
    publisher::{Publisher, PublisherEdge},
    readiness::Readiness,
    refusals::Refusals,
    starting::{Protocol, Started},
};

/// Calls of more than one message.
const STREAMS: [(&str, TimedUnit); 3] = [
    (
        "/inference.GRPCInferenceService/ModelStreamInfer",
        TimedUnit::Message,
    ),
    (
        "/retort.publish.v1.PublisherService/Publish",
        TimedUnit::Part,
    ),
    (
        "/retort.publish.v1.PublisherService/CheckPublish",
        TimedUnit::Part,
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

/// Names by which health is asked for, beside the empty one.
const SERVICES: [&str; 2] = [
    grpc_inference_service_server::SERVICE_NAME,
    predictor_service_server::SERVICE_NAME,
];

/// Serves until `shutdown`, then finishes what is in flight, within the configured time.
///
/// Every port answers at once; while the stored models are being loaded, the service lives, is not
/// ready, and refuses calls. Writes `ready_file` when every model has been loaded.
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
    let readiness = Readiness::new(Arc::clone(&catalog), config.readiness);
    let inference = Arc::new(Inference::new(catalog, readiness, config.log.access));
    let stop = CancellationToken::new();
    let started = Started::default();
    let edges = Edges {
        inference: &inference,
        publisher: &publisher,
        refusals: Refusals::default(),
        started: &started,
        stop: &stop,
    };
    let (health, mut servers) = edges.serve(config, ports)?;
    let [(_, grpc), (_, http), (_, admin), (_, metrics)] = addresses;
    info!(%grpc, %http, %admin, %metrics, "listening");

    tokio::select! {
        restored = publisher.restore() => restored.map_err(ServerError::Restore)?,
        () = shutdown.cancelled() => {}
        Some(ended) = servers.join_next() => return Err(stopped(ended)),
    }
    if !shutdown.is_cancelled() {
        started.set();
        inference.readiness.start();
        health.set_serving(inference.readiness.is_ready());
        tokio::spawn(Arc::clone(&publisher).retry());
        if let Some(file) = &mut ready_file {
            file.write(&addresses).map_err(ServerError::ReadyFile)?;
        }
        info!(%grpc, %http, %admin, %metrics, "serving");
        let follow = |ready| {
            health.set_serving(ready);
            future::ready(())
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = inference.readiness.follow(follow) => {}
            Some(ended) = servers.join_next() => return Err(stopped(ended)),
        }
        inference.readiness.stop();
        health.set_serving(false);
        sleep(config.shutdown.grace()).await;
    }
    health.end();
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

/// Each server, until it ends; they have names.
type Servers = JoinSet<&'static str>;

fn stopped(ended: Result<&'static str, JoinError>) -> ServerError {
    // A panic has said more in the log.
    ServerError::Stopped(ended.unwrap_or("first"))
}

/// What the ports' services share.
struct Edges<'e> {
    inference: &'e Arc<Inference>,
    publisher: &'e Arc<Publisher>,
    refusals: Refusals,
    started: &'e Started,
    /// Every server ends after it, when the last call has been answered.
    stop: &'e CancellationToken,
}

impl Edges<'_> {
    fn serve(
        self,
        config: &InferenceConfig,
        ports: Ports,
    ) -> Result<(Health, Servers), ServerError> {
        let classifier = Arc::new(Classifier::new(&config.images));
        let predictor = PredictorEdge {
            inference: Arc::clone(self.inference),
            classifier: Arc::clone(&classifier),
        };
        let (health, health_service) = Health::new(&SERVICES);
        let mut servers = Servers::new();
        self.serve_grpc(config, ports.grpc, predictor, &health_service, &mut servers)?;
        self.serve_admin(config, ports.admin, &health_service, &mut servers)?;
        let router = http::router(Arc::clone(self.inference), classifier, &config.http)
            .layer(self.started.layer(Protocol::Http))
            .layer(ports.http.layer)
            .layer(self.refusals.clone());
        let limits = ConnectionLimits {
            connections: config.http.max_connections,
            header_time: Duration::from_secs(config.http.read_timeout_seconds),
        };
        let router = http::wait_for_bodies(router, &config.http);
        let server = http1::serve(ports.http.listener, router, limits, self.stop.clone());
        servers.spawn(server.map(|()| "HTTP"));
        let catalog = Arc::clone(&self.inference.catalog);
        let router = metrics::router(catalog, self.refusals.clone(), ports.staleness)
            .layer(ports.metrics.layer);
        let limits = metrics_server::CONNECTIONS;
        let server = http1::serve(ports.metrics.listener, router, limits, self.stop.clone());
        servers.spawn(server.map(|()| "metrics"));
        Ok((health, servers))
    }

    fn serve_grpc(
        &self,
        config: &InferenceConfig,
        port: GuardedPort,
        predictor: PredictorEdge,
        health: &HealthServer<HealthService>,
        servers: &mut Servers,
    ) -> Result<(), ServerError> {
        let limit = config.grpc.max_message_bytes;
        let inference = InferenceServer::new(self.inference_edge(config.grpc.model_control), limit);
        let predictor = PredictorServiceServer::new(predictor)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let reflection = || reflection().with_service_name(predictor_service_server::SERVICE_NAME);
        let router = grpc::server()
            .layer(self.arrival(config))
            .layer(self.refusals.clone())
            .layer(port.layer)
            .layer(self.started.layer(Protocol::Grpc))
            .layer(Reasons)
            .layer(inference.direct)
            .add_service(inference.routed)
            .add_service(predictor)
            .add_service(health.clone())
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let connections = config.grpc.max_connections;
        let stop = self.stop.clone();
        let server = http2::serve(port.listener, router, connections, || (), stop);
        servers.spawn(server.map(|()| "inference"));
        Ok(())
    }

    fn serve_admin(
        &self,
        config: &InferenceConfig,
        port: GuardedPort,
        health: &HealthServer<HealthService>,
        servers: &mut Servers,
    ) -> Result<(), ServerError> {
        let limit = config.grpc.max_message_bytes;
        // The port's rules have asked for the scope already.
        let inference = InferenceServer::new(self.inference_edge(ModelControl::EveryCaller), limit);
        let publisher = PublisherEdge::new(Arc::clone(self.publisher));
        // A manifest that may be published can also be sent.
        let limit = limit.max(config.publish.max_message_bytes());
        let publisher = PublisherServiceServer::new(publisher)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let reflection = || reflection().with_service_name(publisher_service_server::SERVICE_NAME);
        let router = grpc::server()
            .layer(self.arrival(config))
            .layer(self.refusals.clone())
            .layer(port.layer)
            .layer(self.started.layer(Protocol::Grpc))
            .layer(Reasons)
            .layer(inference.direct)
            .add_service(publisher)
            .add_service(inference.routed)
            .add_service(health.clone())
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let connections = config.grpc.max_connections;
        let stop = self.stop.clone();
        let server = http2::serve(port.listener, router, connections, || (), stop);
        servers.spawn(server.map(|()| "admin"));
        Ok(())
    }

    fn inference_edge(&self, model_control: ModelControl) -> InferenceEdge {
        InferenceEdge {
            inference: Arc::clone(self.inference),
            publisher: Arc::clone(self.publisher),
            model_control,
        }
    }

    fn arrival(&self, config: &InferenceConfig) -> ArrivalLimit {
        let read_timeout = Duration::from_secs(config.grpc.read_timeout_seconds);
        ArrivalLimit::new(read_timeout, &STREAMS, self.stop.clone())
    }
}

/// Of both gRPC ports, in both versions: older clients, grpcio's own among them, know the first only.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(grpc_inference_service_server::SERVICE_NAME)
        .with_service_name("grpc.health.v1.Health")
}

/// The ports, taken but not yet served.
struct Ports {
    grpc: GuardedPort,
    http: GuardedPort,
    admin: GuardedPort,
    metrics: GuardedPort,
    /// Of the credentials that they ask for.
    staleness: Staleness,
    /// As the ready file names them, with port 0 resolved.
    addresses: [(&'static str, SocketAddr); 4],
}

impl Ports {
    async fn bind(config: &InferenceConfig) -> Result<Self, ServerError> {
        let security = Security::load(config.grpc.tls.as_ref(), &config.auth)?;
        let grpc = security
            .bind(
                config.grpc_port(),
                port_rules::grpc(config.grpc.model_control),
            )
            .await?;
        let http = security.bind(config.http_port(), port_rules::HTTP).await?;
        let admin = security
            .bind(config.admin_port(), port_rules::ADMIN)
            .await?;
        let metrics = security.bind(config.metrics.port(), Rules::METRICS).await?;
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
            staleness: security.staleness(),
            addresses,
        })
    }
}
