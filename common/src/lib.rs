//! The parts that all of Retort's programs share: configuration, telemetry, digests, atomic files and
//! locks. This crate depends on neither gRPC, TLS, libtorch nor ONNX Runtime.

pub mod atomic_file;
pub mod compute;
pub mod config;
pub mod cores;
pub mod digest;
pub mod disk_space;
pub mod file_lock;
pub mod folders;
pub mod memory_limit;
pub mod os_text;
pub mod output;
pub mod process_environment;
pub mod ready_file;
pub mod shutdown;
pub mod slow_work;
pub mod telemetry;
pub mod text;
pub mod writable_folder;
