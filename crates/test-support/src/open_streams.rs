//! Streams and connections without work, which must not delay the stop of a service.

use std::net::SocketAddr;

use server::grpc;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_stream::StreamExt;
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
};

use crate::conditions::SOON;

/// Open streams at a gRPC port: watches of health and a reflection stream. Beside them, a connection without
/// calls, one without data, and one with half of HTTP/2's preface.
pub struct OpenStreams {
    watches: Vec<Streaming<HealthCheckResponse>>,
    reflection: Streaming<ServerReflectionResponse>,
    _connections: (Channel, [TcpStream; 2]),
}

impl OpenStreams {
    /// Opens the streams at the port `address`, and waits for the first message of each. The watches are of
    /// the whole service, of an unknown service, and of `services`.
    pub async fn open(address: SocketAddr, services: &[&str]) -> Self {
        let mut watches = Vec::new();
        for service in ["", "no.such.Service"].iter().chain(services) {
            let mut watch = watch(address, service).await;
            next_status(&mut watch).await.expect("a first status");
            watches.push(watch);
        }
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let mut client = ServerReflectionClient::new(connect(address).await);
        let reflection = client.server_reflection_info(requests).await;
        let mut reflection = reflection.unwrap().into_inner();
        reflection.message().await.unwrap().expect("an answer");
        let silent = TcpStream::connect(address).await.unwrap();
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        Self {
            watches,
            reflection,
            _connections: (connect(address).await, [silent, half]),
        }
    }

    /// Waits until the service has ended every stream. The connections stay open until this value is dropped.
    pub async fn until_ended(&mut self) {
        for watch in &mut self.watches {
            // Watches of known services report the end.
            while let Some(status) = next_status(watch).await {
                assert_eq!(status, ServingStatus::NotServing);
            }
        }
        let end = tokio::time::timeout(SOON, self.reflection.message()).await;
        assert!(end.expect("the stream ends in time").unwrap().is_none());
    }
}

/// Watches the health of `service` at the port `address`.
pub async fn watch(address: SocketAddr, service: &str) -> Streaming<HealthCheckResponse> {
    let service = service.to_owned();
    let mut client = HealthClient::new(connect(address).await);
    let watch = client.watch(HealthCheckRequest { service }).await;
    watch.unwrap().into_inner()
}

/// Waits for the next status of a watch; `None` if the watch has ended.
pub async fn next_status(watch: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let next = tokio::time::timeout(SOON, watch.message()).await;
    let response = next.expect("a message in time").unwrap()?;
    Some(response.status())
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = grpc::endpoint(&address.to_string()).unwrap();
    grpc::connect(&endpoint).await.unwrap()
}
