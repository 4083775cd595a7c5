//! The ports of the tables `grpc`, `http` and `admin`.

use std::net::SocketAddr;

use common::config::Problems;
use serde::Deserialize;
use server::{grpc, listen::PortAccess, security::tls::ServerTls};

/// The gRPC port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// Which callers may send requests.
    pub access: PortAccess,
    /// Which callers may load and unload models at this port.
    pub model_control: ModelControl,
    /// The certificate of every port; without it, the ports use plain text.
    pub tls: Option<ServerTls>,
    /// Largest message in either direction in bytes.
    pub max_message_bytes: usize,
    /// Longest time for a request, or for the next part of an upload, to arrive, seconds.
    pub read_timeout_seconds: u64,
    /// Maximum number of connections of the gRPC port, and of the admin port.
    pub max_connections: usize,
}

/// Which callers may load and unload models at the gRPC port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelControl {
    /// Callers with a token of scope `admin`.
    AdminToken,
    /// Every caller of the port.
    EveryCaller,
}

/// The HTTP port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// Which callers may send requests.
    pub access: PortAccess,
    /// Largest body in bytes, before and after decompression.
    pub max_body_bytes: usize,
    /// Longest time for a request's headers, and then for its body, to arrive, seconds.
    pub read_timeout_seconds: u64,
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Whether `/` is a web page that classifies pictures.
    pub demo_page: bool,
    /// `host:port` of a teacher service that the page shows beside the models.
    pub demo_page_teacher: Option<String>,
}

impl HttpConfig {
    pub(super) fn validate_page(&self, problems: &mut Problems) {
        let Some(teacher) = &self.demo_page_teacher else {
            return;
        };
        let key = "http.demo_page_teacher";
        let shown = || format!("\"{teacher}\"");
        let has_page = "needs http.demo_page = true";
        problems.require(self.demo_page, key, shown(), has_page);
        let is_address = grpc::endpoint(teacher).is_ok();
        problems.require(is_address, key, shown(), "must be host:port");
    }
}

/// The admin port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// Which callers may publish.
    pub access: PortAccess,
}
