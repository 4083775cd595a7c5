//! The ports of the tables `grpc`, `http` and `admin`.

use std::net::SocketAddr;

use serde::Deserialize;
use server::{listen::PortAccess, security::tls::ServerTls};

/// The inference protocol's server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may ask for predictions.
    pub access: PortAccess,
    /// Who may load and unload models at this port.
    pub model_control: ModelControl,
    /// The certificate of every port; without it, plain text is spoken.
    pub tls: Option<ServerTls>,
    /// Largest message in either direction, bytes.
    pub max_message_bytes: usize,
    /// Longest time for a request, or for the next part of an upload, to arrive, seconds.
    pub read_timeout_seconds: u64,
    /// Connections at a time, at this port and at that for publishing each.
    pub max_connections: usize,
}

/// Who may load and unload models at the port of the inference protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelControl {
    /// Callers whose token has the scope `admin`.
    AdminToken,
    /// Every caller of the port.
    EveryCaller,
}

/// The HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may ask for predictions.
    pub access: PortAccess,
    /// Largest body, as sent and after inflating, bytes.
    pub max_body_bytes: usize,
    /// Longest time for a request's headers, and then for its body, to arrive, seconds.
    pub read_timeout_seconds: u64,
    /// Connections at a time.
    pub max_connections: usize,
}

/// The server for publishing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may publish.
    pub access: PortAccess,
}
