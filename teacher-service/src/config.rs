//! Configuration of the service; `configs/teacher-service.toml` contains the defaults.

use std::{net::SocketAddr, time::Duration};

use common::{
    compute::{DeviceChoice, PrecisionChoice},
    config::{Problems, Validate},
};
use serde::Deserialize;
use server::{
    listen::PortAccess,
    metrics_server::MetricsConfig,
    program::ServiceConfig,
    security::{self, AuthConfig, ListenConfig, tls::ServerTls},
};

use crate::{data_config::DataConfig, libtorch_environment::CpuIsa, model::ModelConfig};

/// Configuration of the teacher service; the shipped file explains every key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// The teacher's model.
    pub model: ModelConfig,
    /// A data set that trainers have too.
    #[serde(default)]
    pub data: Option<DataConfig>,
    /// How logits are computed.
    pub compute: ComputeConfig,
    /// The gRPC server.
    pub grpc: GrpcConfig,
    /// Accepted tokens.
    #[serde(default)]
    pub auth: AuthConfig,
    /// The Prometheus endpoint.
    pub metrics: MetricsConfig,
    /// How the service stops.
    pub shutdown: ShutdownConfig,
}

/// How logits are computed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeConfig {
    /// Threads for one batch; 0 = all cores.
    pub threads: usize,
    /// Precision of the layers.
    pub precision: PrecisionChoice,
    /// Newest instruction set that libtorch may use; ONNX Runtime takes the newest of the processor.
    pub cpu_isa: CpuIsa,
    /// Where logits are computed.
    pub device: DeviceChoice,
}

/// The gRPC server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Which callers need credentials.
    pub access: PortAccess,
    /// The certificate of all ports; `None` means plain text.
    pub tls: Option<ServerTls>,
    /// Batches that one stream may have in flight.
    pub credit: u32,
    /// Limit of open connections.
    pub max_connections: usize,
    /// Limit of open streams.
    pub max_streams: usize,
    /// Memory limit for queued batches of all streams, bytes.
    pub max_queued_bytes: usize,
    /// Longest time for a call, or for a message of a stream once it has begun, to arrive.
    pub read_timeout_seconds: u64,
    /// Longest time for which a trainer may read no answer.
    pub reader_timeout_seconds: u64,
    /// Largest message in either direction, bytes.
    pub max_message_bytes: usize,
}

/// How the service stops.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// Longest time for batches in flight, seconds.
    pub drain_seconds: u64,
}

impl ShutdownConfig {
    /// Longest time for batches in flight.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

impl ServiceConfig for TeacherConfig {
    const SHIPPED: &'static str = include_str!("../../configs/teacher-service.toml");
    const ENVIRONMENT_PREFIX: &'static str = "RETORT_TEACHER";
}

impl TeacherConfig {
    /// The port of the gRPC server.
    pub fn grpc_port(&self) -> ListenConfig {
        ListenConfig {
            table: "grpc",
            listen: self.grpc.listen,
            access: self.grpc.access,
        }
    }
}

impl Validate for TeacherConfig {
    fn validate(&self, problems: &mut Problems) {
        self.model.validate(problems);
        if let Some(data) = &self.data {
            data.validate(problems);
        }
        problems.require_within("compute.threads", self.compute.threads, 0..=1024);

        let grpc = &self.grpc;
        let ports = [self.grpc_port(), self.metrics.port()];
        security::validate(grpc.tls.as_ref(), &self.auth, &ports, problems);
        problems.require_within("grpc.credit", grpc.credit, 1..=1024);
        problems.require_within("grpc.max_connections", grpc.max_connections, 1..=65_536);
        problems.require_within("grpc.max_streams", grpc.max_streams, 1..=1024);
        let message_bytes = 4096..=1 << 30;
        problems.require_within(
            "grpc.max_message_bytes",
            grpc.max_message_bytes,
            message_bytes,
        );
        // A batch takes at most as much memory as its message.
        problems.require(
            grpc.max_queued_bytes >= grpc.max_message_bytes,
            "grpc.max_queued_bytes",
            grpc.max_queued_bytes,
            &format!(
                "must be at least grpc.max_message_bytes = {}",
                grpc.max_message_bytes
            ),
        );
        for (key, seconds, range) in [
            (
                "grpc.read_timeout_seconds",
                grpc.read_timeout_seconds,
                1..=3600,
            ),
            (
                "grpc.reader_timeout_seconds",
                grpc.reader_timeout_seconds,
                1..=3600,
            ),
            (
                "shutdown.drain_seconds",
                self.shutdown.drain_seconds,
                0..=3600,
            ),
        ] {
            problems.require_within(key, seconds, range);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::config::Layers;

    use super::*;

    fn load(overrides: &[&str]) -> Result<TeacherConfig, String> {
        let layers = Layers {
            overrides: overrides.iter().map(Into::into).collect(),
            ..Layers::shipped(TeacherConfig::SHIPPED)
        };
        layers.load().map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_lacks_nothing_but_a_teacher() {
        let error = load(&[]).unwrap_err();
        assert!(
            error.starts_with("1 problem") && error.contains("model.path"),
            "{error}"
        );
        let config = load(&["model.path=/teacher"]).unwrap();
        assert_eq!(config.grpc.listen.port(), 50051);
        assert_eq!(config.metrics.listen.port(), 50061);
    }

    #[test]
    fn other_machines_are_let_in_only_by_words() {
        let open = [
            "model.path=/t",
            "grpc.listen=0.0.0.0:1",
            "metrics.listen=[::]:2",
        ];
        let error = load(&open).unwrap_err();
        assert!(error.contains("grpc.listen = 0.0.0.0:1"), "{error}");
        assert!(error.contains("metrics.listen = [::]:2"), "{error}");
        assert!(error.contains("anyone_who_reaches_the_port"), "{error}");
        let words = [
            "grpc.access=anyone_who_reaches_the_port",
            "metrics.access=anyone_who_reaches_the_port",
        ];
        let said = [&open[..], &words].concat();
        assert!(load(&said).is_ok());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_both_keys() {
        for (settings, parts) in [
            (
                [
                    "grpc.max_message_bytes=1048576",
                    "grpc.max_queued_bytes=1048575",
                ],
                [
                    "grpc.max_queued_bytes = 1048575",
                    "grpc.max_message_bytes = 1048576",
                ],
            ),
            (
                [
                    "grpc.listen=127.0.0.1:9000",
                    "metrics.listen=127.0.0.1:9000",
                ],
                [
                    "metrics.listen = 127.0.0.1:9000",
                    "grpc.listen = 127.0.0.1:9000",
                ],
            ),
        ] {
            let error = load(&[&["model.path=/t"], &settings[..]].concat()).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        }
    }

    #[test]
    fn data_is_described_as_by_a_trainer() {
        let settings = [
            "model.path=/t",
            "data.path=/data",
            "data.format=image-folder",
        ];
        let data = load(&settings).unwrap().data.unwrap();
        let expected = datasets::DataSpec {
            format: Some(datasets::Format::ImageFolder),
            ..datasets::DataSpec::new("/data")
        };
        assert_eq!(data.spec(), expected);
    }

    #[test]
    fn every_key_has_a_range() {
        for bad in [
            "data.path=",
            "data.max_unreadable=1.5",
            "data.ground=teal",
            "compute.threads=1025",
            "compute.precision=f64",
            "compute.cpu_isa=sse",
            "grpc.credit=0",
            "grpc.max_connections=0",
            "grpc.max_streams=0",
            "grpc.read_timeout_seconds=0",
            "grpc.read_timeout_seconds=3601",
            "grpc.reader_timeout_seconds=0",
            "compute.device=tpu",
            "grpc.max_queued_bytes=1",
            "grpc.max_message_bytes=1",
            "grpc.listen=localhost",
            "shutdown.drain_seconds=3601",
            "shutdown.drain=1",
            "model.format=keras",
            "model.server.timeout_seconds=0",
            "model.preprocessing.scale=percent",
            "model.preprocessing.size=[0, 1]",
            "model.preprocessing.std=[0.0]",
        ] {
            let error = load(&["model.path=/t", "data.path=/d", bad]).unwrap_err();
            let key = bad.split_once('=').unwrap().0;
            assert!(error.contains(key), "{bad}: {error}");
        }
    }
}
