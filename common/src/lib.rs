//! What Retort's services share: configuration, telemetry, TLS and tokens, atomic files, the artifact
//! manifest, the model store and the encodings of soft targets. Knows neither libtorch nor ONNX
//! Runtime.

pub mod atomic_file;
pub mod config;
pub mod consumption;
pub mod digest;
pub mod file_lock;
pub mod folders;
pub mod grpc;
pub mod health;
#[cfg(test)]
mod http2_frames;
pub mod listen;
pub mod manifest;
pub mod memory_limit;
pub mod metrics_server;
pub mod model_store;
pub mod os_text;
pub mod output;
pub mod process_environment;
pub mod raw_codec;
pub mod ready_file;
pub mod security;
pub mod shutdown;
pub mod slow_work;
pub mod soft_targets;
pub mod telemetry;
pub mod turn;
pub mod upload;
pub mod writable_folder;
