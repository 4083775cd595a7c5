//! The service's four ports: binds them, and serves gRPC or HTTP on each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::FutureExt;
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
    trace_layer::{TraceLayer, TracedProtocol},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;

use crate::{
    capture::Capture,
    classification::Classifier,
    config::{InferenceConfig, ModelControl},
    grpc::{Direct, InferenceEdge, InferenceServer, PredictorEdge, PublisherEdge, Reasons},
    http,
    inference::Inference,
    metrics, port_rules,
    publisher::Publisher,
    refusals::Refusals,
    starting::{Protocol, Started},
};

/// Methods that receive more than one message.
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

/// Service names that health checks accept, besides the empty name.
const HEALTH_CHECKED: [&str; 2] = [
    grpc_inference_service_server::SERVICE_NAME,
    predictor_service_server::SERVICE_NAME,
];

/// The bound ports, not served yet.
pub(crate) struct Ports {
    grpc: GuardedPort,
    http: GuardedPort,
    admin: GuardedPort,
    metrics: GuardedPort,
    /// Whether credentials that changed on disk could not be loaded.
    staleness: Staleness,
    /// The ports' names in the ready file, and their addresses with port 0 resolved.
    pub(crate) addresses: [(&'static str, SocketAddr); 4],
}

/// The running servers. Each task returns the name of its server when it ends.
pub(crate) type Servers = JoinSet<&'static str>;

/// What the services of all ports share.
pub(crate) struct Shared<'s> {
    pub(crate) config: &'s InferenceConfig,
    pub(crate) inference: Arc<Inference>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) started: Started,
    pub(crate) refusals: Refusals,
    /// When cancelled, the servers stop accepting calls, and end once all calls are answered.
    pub(crate) stop: CancellationToken,
}

/// The services of a gRPC port.
struct GrpcServices {
    /// Name of the server in errors.
    server: &'static str,
    direct: Direct,
    routes: Routes,
    /// Full name of the service that reflection lists besides the inference protocol.
    listed: &'static str,
}

impl Ports {
    /// Binds the ports, and loads certificates and tokens.
    ///
    /// # Errors
    /// If a port is taken, or a certificate, key or tokens file cannot be used.
    pub(crate) async fn bind(config: &InferenceConfig) -> Result<Self, SecurityError> {
        let security = Security::load(config.grpc.tls.as_ref(), &config.auth)?;
        let rules = port_rules::grpc(config.grpc.model_control);
        let grpc = security.bind(config.grpc_port(), rules).await?;
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

    /// Starts a server on every port.
    ///
    /// # Errors
    /// If the reflection service rejects the descriptors.
    pub(crate) fn serve(
        self,
        shared: &Shared<'_>,
    ) -> Result<(Health, Servers), tonic_reflection::server::Error> {
        let classifier = Arc::new(Classifier::new(&shared.config.images));
        let (health, health_service) = Health::new(&HEALTH_CHECKED);
        let mut servers = Servers::new();
        let services = shared.inference_services(Arc::clone(&classifier));
        shared.serve_grpc(self.grpc, services, &health_service, &mut servers)?;
        let services = shared.admin_services();
        shared.serve_grpc(self.admin, services, &health_service, &mut servers)?;
        shared.serve_http(self.http, classifier, &mut servers);
        shared.serve_metrics(self.metrics, self.staleness, &mut servers);
        Ok((health, servers))
    }
}

/// Sets the message limit in both directions, and accepts gzip. The generated servers have these methods, but
/// no trait in common.
macro_rules! with_limit {
    ($server:expr, $limit:expr) => {
        $server
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size($limit)
            .max_encoding_message_size($limit)
    };
}

impl Shared<'_> {
    fn inference_services(&self, classifier: Arc<Classifier>) -> GrpcServices {
        let grpc = &self.config.grpc;
        let inference = self.inference_server(grpc.model_control);
        let predictor = PredictorServiceServer::new(PredictorEdge {
            inference: Arc::clone(&self.inference),
            classifier,
        });
        GrpcServices {
            server: "inference",
            direct: inference.direct,
            routes: Routes::new(inference.routed)
                .add_service(with_limit!(predictor, grpc.max_message_bytes)),
            listed: predictor_service_server::SERVICE_NAME,
        }
    }

    fn admin_services(&self) -> GrpcServices {
        // The port's rules have checked the scope.
        let inference = self.inference_server(ModelControl::EveryCaller);
        let publisher = PublisherEdge::new(Arc::clone(&self.publisher));
        let publisher = PublisherServiceServer::new(publisher);
        // A manifest that may be published must fit into a response too.
        let limit = self.config.grpc.max_message_bytes;
        let limit = limit.max(self.config.publish.max_message_bytes());
        GrpcServices {
            server: "admin",
            direct: inference.direct,
            routes: Routes::new(inference.routed).add_service(with_limit!(publisher, limit)),
            listed: publisher_service_server::SERVICE_NAME,
        }
    }

    fn inference_server(&self, model_control: ModelControl) -> InferenceServer {
        let edge = InferenceEdge {
            inference: Arc::clone(&self.inference),
            publisher: Arc::clone(&self.publisher),
            max_message_bytes: self.config.grpc.max_message_bytes,
            model_control,
        };
        InferenceServer::new(edge)
    }

    fn serve_grpc(
        &self,
        port: GuardedPort,
        services: GrpcServices,
        health: &HealthServer<HealthService>,
        servers: &mut Servers,
    ) -> Result<(), tonic_reflection::server::Error> {
        let GrpcServices {
            server: name,
            direct,
            routes,
            listed,
        } = services;
        let config = &self.config.grpc;
        let read_timeout = Duration::from_secs(config.read_timeout_seconds);
        let routes = routes
            .add_service(health.clone())
            .add_service(reflection(listed).build_v1()?)
            .add_service(reflection(listed).build_v1alpha()?);
        let router = grpc::server()
            .layer(ArrivalLimit::new(read_timeout, &STREAMS, self.stop.clone()))
            .layer(self.refusals.clone())
            .layer(port.layer)
            .layer(TraceLayer(TracedProtocol::Grpc))
            .layer(self.started.layer(Protocol::Grpc))
            .layer(Reasons)
            .layer(direct)
            .add_routes(routes);
        let stop = self.stop.clone();
        let server = http2::serve(port.listener, router, config.max_connections, || (), stop);
        servers.spawn(server.map(move |()| name));
        Ok(())
    }

    fn serve_http(&self, port: GuardedPort, classifier: Arc<Classifier>, servers: &mut Servers) {
        let config = &self.config.http;
        let router = http::router(Arc::clone(&self.inference), classifier, config)
            .layer(TraceLayer(TracedProtocol::Http))
            .layer(self.started.layer(Protocol::Http))
            .layer(port.layer)
            .layer(self.refusals.clone());
        let router = http::drain_bodies(router, config);
        let limits = ConnectionLimits {
            connections: config.max_connections,
            header_time: Duration::from_secs(config.read_timeout_seconds),
        };
        let server = http1::serve(port.listener, router, limits, self.stop.clone());
        servers.spawn(server.map(|()| "HTTP"));
    }

    fn serve_metrics(&self, port: GuardedPort, staleness: Staleness, servers: &mut Servers) {
        let catalog = Arc::clone(&self.inference.catalog);
        let captured = self.inference.capture.as_ref().map(Capture::counts);
        let captured = captured.unwrap_or_default();
        let polls = self.publisher.polls();
        let refusals = self.refusals.clone();
        let router = metrics::router(catalog, refusals, captured, polls, staleness);
        let router = router.layer(port.layer);
        let limits = metrics_server::CONNECTIONS;
        let server = http1::serve(port.listener, router, limits, self.stop.clone());
        servers.spawn(server.map(|()| "metrics"));
    }
}

/// Reflection of a gRPC port. Both versions are served, because older clients, such as grpcio's, know only
/// v1alpha.
fn reflection(listed: &'static str) -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(grpc_inference_service_server::SERVICE_NAME)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name(listed)
}
