//! What the service is told: `configs/inference-service.toml` and what is laid over it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use common::{
    config::{Problems, Validate},
    listen::Access,
};
use serde::Deserialize;

/// The shipped file, which is the compiled default.
pub const SHIPPED: &str = include_str!("../../configs/inference-service.toml");

/// Variables of the environment that set keys begin with this and two underscores.
pub const ENVIRONMENT_PREFIX: &str = "RETORT_INFERENCE";

/// Configuration of the inference service; the shipped file explains every key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceConfig {
    /// Folder of the model store.
    pub store: PathBuf,
    /// The inference protocol's server.
    pub grpc: GrpcConfig,
    /// The server for publishing.
    pub admin: AdminConfig,
    /// The Prometheus endpoint.
    pub metrics: MetricsConfig,
    /// How requests become batches.
    pub batching: BatchingConfig,
    /// How batches are computed.
    pub runtime: RuntimeConfig,
    /// What may be published.
    pub publish: PublishConfig,
    /// How the service stops.
    pub shutdown: ShutdownConfig,
}

/// The inference protocol's server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Largest message in either direction, bytes.
    pub max_message_bytes: usize,
}

/// The server for publishing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may publish.
    pub access: Access,
}

/// The Prometheus endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// How requests become batches.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// Samples computed together, at most.
    pub max_batch_size: usize,
    /// How long the first request of a batch waits for others.
    pub max_queue_delay_microseconds: u64,
    /// Requests that may wait.
    pub max_queue_size: usize,
}

impl BatchingConfig {
    /// How long the first request of a batch waits for others.
    pub fn max_queue_delay(&self) -> Duration {
        Duration::from_micros(self.max_queue_delay_microseconds)
    }
}

/// How batches are computed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Sessions a model, each on a thread of its own.
    pub sessions: usize,
    /// Threads that share the work of one batch.
    pub threads: usize,
}

/// What may be published.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishConfig {
    /// Largest ONNX file, bytes.
    pub max_model_bytes: usize,
    /// Largest manifest, bytes.
    pub max_manifest_bytes: usize,
    /// Most memory that the tensors between a model's operators may take in a full batch, bytes.
    pub max_activation_bytes: u64,
    /// Longest time to load a model, warm it up and compute its golden batch, seconds.
    pub load_timeout_seconds: u64,
}

impl PublishConfig {
    /// Longest time to load a model, warm it up and compute its golden batch.
    pub fn load_timeout(&self) -> Duration {
        Duration::from_secs(self.load_timeout_seconds)
    }
}

/// How the service stops.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long requests are still taken while health says NOT_SERVING, seconds.
    pub grace_seconds: u64,
    /// Longest time for requests in flight after that, seconds.
    pub drain_seconds: u64,
}

impl ShutdownConfig {
    /// How long requests are still taken while health says NOT_SERVING.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// Longest time for requests in flight after that.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

impl Validate for InferenceConfig {
    fn validate(&self, problems: &mut Problems) {
        let store = self.store.display();
        let has_store = !self.store.as_os_str().is_empty();
        problems.require(
            has_store,
            "store",
            format!("\"{store}\""),
            "give a folder for the models",
        );
        let AdminConfig { listen, access } = &self.admin;
        access.validate("admin.access", "admin.listen", *listen, problems);
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            let message = format!("must be {least} to {most}");
            problems.require((least..=most).contains(&value), key, value, &message);
        };
        let batching = &self.batching;
        let delay = batching.max_queue_delay_microseconds;
        within(
            "grpc.max_message_bytes",
            self.grpc.max_message_bytes as u64,
            4096,
            1 << 30,
        );
        within(
            "batching.max_batch_size",
            batching.max_batch_size as u64,
            1,
            4096,
        );
        within("batching.max_queue_delay_microseconds", delay, 0, 1_000_000);
        within(
            "batching.max_queue_size",
            batching.max_queue_size as u64,
            1,
            1 << 20,
        );
        within("runtime.sessions", self.runtime.sessions as u64, 1, 256);
        within("runtime.threads", self.runtime.threads as u64, 1, 256);
        within(
            "publish.max_model_bytes",
            self.publish.max_model_bytes as u64,
            1,
            1 << 30,
        );
        within(
            "publish.max_manifest_bytes",
            self.publish.max_manifest_bytes as u64,
            1,
            1 << 28,
        );
        within(
            "publish.max_activation_bytes",
            self.publish.max_activation_bytes,
            1 << 20,
            1 << 40,
        );
        within(
            "publish.load_timeout_seconds",
            self.publish.load_timeout_seconds,
            1,
            3600,
        );
        within(
            "shutdown.grace_seconds",
            self.shutdown.grace_seconds,
            0,
            3600,
        );
        within(
            "shutdown.drain_seconds",
            self.shutdown.drain_seconds,
            0,
            3600,
        );
    }
}

#[cfg(test)]
mod tests {
    use common::config::Layers;

    use super::*;

    fn load(overrides: &[&str]) -> Result<InferenceConfig, String> {
        let layers = Layers {
            shipped: SHIPPED,
            file: None,
            environment: Vec::new(),
            overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        };
        layers.load().map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_is_complete() {
        let config = load(&[]).unwrap();
        assert_eq!(config.grpc.listen.port(), 8001);
        assert_eq!(config.metrics.listen.port(), 8002);
        assert_eq!(config.admin.listen.port(), 8003);
    }

    #[test]
    fn other_machines_may_publish_only_by_words() {
        for open in ["admin.listen=0.0.0.0:8003", "admin.listen=[::]:8003"] {
            let error = load(&[open]).unwrap_err();
            assert!(
                error.contains("admin.access = \"anyone_who_reaches_the_port\""),
                "{error}"
            );
            assert!(load(&[open, "admin.access=anyone_who_reaches_the_port"]).is_ok());
        }
        assert!(load(&["grpc.listen=0.0.0.0:8001", "metrics.listen=0.0.0.0:8002"]).is_ok());
    }

    #[test]
    fn every_key_has_a_range() {
        for bad in [
            "store=",
            "grpc.listen=localhost",
            "grpc.max_message_bytes=1",
            "admin.access=everyone",
            "batching.max_batch_size=0",
            "batching.max_queue_delay_microseconds=1000001",
            "batching.max_queue_size=0",
            "runtime.sessions=0",
            "runtime.threads=257",
            "publish.max_model_bytes=0",
            "publish.max_manifest_bytes=0",
            "publish.max_activation_bytes=0",
            "publish.load_timeout_seconds=0",
            "shutdown.grace_seconds=3601",
            "shutdown.drain_seconds=-1",
            "shutdown.drain=1",
        ] {
            let error = load(&[bad]).unwrap_err();
            let key = bad.split_once('=').unwrap().0;
            assert!(error.contains(key), "{bad}: {error}");
        }
    }
}
