//! What the edge of every service needs: listeners and their limits, TLS and tokens, tower layers,
//! gRPC defaults, health, and the clients' side of the same.

pub mod back_off;
pub mod grpc;
pub mod health;
pub mod health_check;
#[cfg(test)]
mod http2_frames;
pub mod listen;
pub mod metrics_server;
pub mod program;
pub mod raw_codec;
pub mod security;
pub mod trace_layer;
pub mod upload;
