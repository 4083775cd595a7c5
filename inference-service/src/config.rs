//! Configuration of the service: `configs/inference-service.toml` and its overrides.

mod canary;
mod capture;
mod model;
mod model_store;
mod ports;
mod publish;
mod signatures;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use common::{
    config::{Problems, Validate},
    cores,
};
use object_storage::{InvalidLocation, Location};
use serde::Deserialize;
use server::{
    metrics_server::MetricsConfig,
    program::ServiceConfig,
    security::{self, AuthConfig, ListenConfig},
};

pub use canary::CanaryConfig;
pub(crate) use canary::{LARGEST_SHARE, LATENCIES};
pub use capture::CaptureConfig;
pub use model::{
    Auto, BatchingConfig, Instances, ModelConfig, ModelOverrides, RuntimeConfig, VersionPolicy,
};
pub use model_store::ModelStoreConfig;
pub use ports::{AdminConfig, GrpcConfig, HttpConfig, ModelControl};
pub use publish::PublishConfig;
pub use signatures::SignaturesConfig;

/// Configuration of the inference service; the shipped file explains every key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceConfig {
    /// Folder or URL of the model store.
    pub store: PathBuf,
    /// When the service is ready.
    pub readiness: ReadinessPolicy,
    /// The gRPC port.
    pub grpc: GrpcConfig,
    /// The HTTP port.
    pub http: HttpConfig,
    /// Limits on images.
    pub images: ImagesConfig,
    /// The admin port.
    pub admin: AdminConfig,
    /// Tokens and client certificates.
    #[serde(default)]
    pub auth: AuthConfig,
    /// The port of the Prometheus endpoint.
    pub metrics: MetricsConfig,
    /// How requests become batches.
    pub batching: BatchingConfig,
    /// How batches are computed.
    pub runtime: RuntimeConfig,
    /// Which versions of a model answer.
    #[serde(default)]
    pub version_policy: VersionPolicy,
    /// Overrides for single models, by name.
    #[serde(default)]
    pub models: BTreeMap<String, ModelOverrides>,
    /// Limits on the memory of models.
    pub memory: MemoryConfig,
    /// What is logged.
    pub log: LogConfig,
    /// How the service uses its model store.
    pub model_store: ModelStoreConfig,
    /// Limits on published models.
    pub publish: PublishConfig,
    /// Which signatures of models are accepted.
    pub signatures: SignaturesConfig,
    /// The rule for canaries.
    pub canary: CanaryConfig,
    /// What is captured of the requests.
    pub capture: CaptureConfig,
    /// How the service stops.
    pub shutdown: ShutdownConfig,
}

/// When the service is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessPolicy {
    /// When every model that has not been unloaded answers.
    AllModels,
    /// When the service has tried to load the models that were stored at its start.
    Server,
}

/// Limits on images.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// Largest file in bytes.
    pub max_bytes: usize,
    /// Largest product of width and height.
    pub max_pixels: u64,
    /// Concurrent calls that decode images, each on its own thread.
    pub decoders: usize,
}

/// Limits on the memory of models.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Estimated memory of all loaded versions together in bytes; 0 for no limit.
    pub max_model_bytes: u64,
    /// What happens to a version that does not fit beside the loaded versions.
    pub on_swap: SwapPolicy,
}

/// What happens to a version that does not fit beside the loaded versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapPolicy {
    /// The version is rejected.
    Refuse,
    /// The model's loaded versions are unloaded first. Requests fail until the new version is loaded.
    UnloadFirst,
}

/// What is logged.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Whether every request has an entry in the access log.
    pub access: bool,
}

/// How the service stops.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long requests are accepted while health checks report NOT_SERVING, seconds.
    pub grace_seconds: u64,
    /// Longest time to answer the requests in flight after that, seconds.
    pub drain_seconds: u64,
}

impl ShutdownConfig {
    /// How long requests are accepted while health checks report NOT_SERVING.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// Longest time to answer the requests in flight after that.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

impl ServiceConfig for InferenceConfig {
    const SHIPPED: &'static str = include_str!("../../configs/inference-service.toml");
    const ENVIRONMENT_PREFIX: &'static str = "RETORT_INFERENCE";
}

impl InferenceConfig {
    /// The shipped configuration.
    #[cfg(test)]
    pub(crate) fn shipped() -> Self {
        let layers = common::config::Layers::shipped(Self::SHIPPED);
        layers.load().expect("the shipped file is complete")
    }

    /// The configuration of the model `name`.
    pub fn model(&self, name: &str) -> ModelConfig {
        let general = self.general();
        match self.models.get(name) {
            Some(overrides) => general.overridden(overrides),
            None => general,
        }
    }

    /// A warning for every number of threads that is above that of the available processors.
    pub(crate) fn excess_threads(&self) -> Vec<String> {
        let general = cores::excess("runtime.threads", self.runtime.threads);
        let models = self.models.iter();
        let own = models.filter_map(|(name, model)| {
            cores::excess(&format!("models.{name}.threads"), model.threads?)
        });
        general.into_iter().chain(own).collect()
    }

    /// The configuration of a model without overrides.
    fn general(&self) -> ModelConfig {
        ModelConfig {
            batching: self.batching,
            runtime: self.runtime,
            version_policy: self.version_policy.clone(),
        }
    }

    fn validate_models(&self, problems: &mut Problems) {
        let general = self.general();
        general.validate(problems, |section, field| section.default_key(field));
        let mut general_problems = Problems::default();
        general.validate(&mut general_problems, |section, field| {
            section.default_key(field)
        });
        for name in self.models.keys() {
            model::validate_name(name, problems);
            // Problems of the defaults are reported once, not for every model.
            if general_problems.is_empty() {
                let model = self.model(name);
                model.validate(problems, |_, field| format!("models.{name}.{field}"));
            }
        }
    }

    /// Where the model store is.
    ///
    /// # Errors
    /// If `store` is neither a folder nor the URL of a bucket.
    pub fn store_location(&self) -> Result<Location, InvalidLocation> {
        Location::parse(&self.store)
    }

    /// Listen settings of the gRPC port.
    pub fn grpc_port(&self) -> ListenConfig {
        ListenConfig {
            table: "grpc",
            listen: self.grpc.listen,
            access: self.grpc.access,
        }
    }

    /// Listen settings of the HTTP port.
    pub fn http_port(&self) -> ListenConfig {
        ListenConfig {
            table: "http",
            listen: self.http.listen,
            access: self.http.access,
        }
    }

    /// Listen settings of the admin port.
    pub fn admin_port(&self) -> ListenConfig {
        ListenConfig {
            table: "admin",
            listen: self.admin.listen,
            access: self.admin.access,
        }
    }
}

impl Validate for InferenceConfig {
    const NAMED_TABLES: &'static [&'static str] = &["models"];

    fn validate(&self, problems: &mut Problems) {
        if let Err(error) = self.store_location() {
            let store = self.store.display();
            problems.add("store", format!("\"{store}\""), &error.to_string());
        }
        self.model_store.validate(problems);
        let ports = [
            self.grpc_port(),
            self.http_port(),
            self.admin_port(),
            self.metrics.port(),
        ];
        security::validate(self.grpc.tls.as_ref(), &self.auth, &ports, problems);
        self.validate_models(problems);
        self.publish.validate(problems);
        self.signatures.validate(problems);
        self.canary.validate(problems);
        self.capture.validate(problems);
        self.http.validate_page(problems);
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            problems.require_within(key, value, least..=most);
        };
        let GrpcConfig {
            max_message_bytes,
            read_timeout_seconds,
            max_connections,
            ..
        } = self.grpc;
        let max_message_bytes = max_message_bytes as u64;
        within("grpc.max_message_bytes", max_message_bytes, 4096, 1 << 30);
        within("grpc.read_timeout_seconds", read_timeout_seconds, 1, 3600);
        within("grpc.max_connections", max_connections as u64, 1, 1 << 20);
        let HttpConfig {
            max_body_bytes,
            read_timeout_seconds,
            max_connections,
            ..
        } = self.http;
        within("http.max_body_bytes", max_body_bytes as u64, 4096, 1 << 30);
        within("http.read_timeout_seconds", read_timeout_seconds, 1, 3600);
        within("http.max_connections", max_connections as u64, 1, 1 << 20);
        let images = &self.images;
        within("images.max_bytes", images.max_bytes as u64, 1, 1 << 30);
        within("images.max_pixels", images.max_pixels, 1, 1 << 32);
        within("images.decoders", images.decoders as u64, 1, 256);
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
mod tests;
