//! The ports of the tables `grpc`, `http` and `admin`.

use std::net::SocketAddr;

use serde::Deserialize;
use server::{listen::PortAccess, security::tls::ServerTls};

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
