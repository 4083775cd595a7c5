//! What the service is told: `configs/inference-service.toml` and what is laid over it.

mod model;
mod publish;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use common::{
    config::{Problems, Validate},
    listen::Access,
    security::{self, AuthConfig, ListenConfig, tls::ServerTls},
};
use serde::Deserialize;

pub use model::{
    Auto, BatchingConfig, Instances, ModelConfig, ModelOverrides, RuntimeConfig, VersionPolicy,
};
pub use publish::PublishConfig;

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
    /// When the service is ready.
    pub readiness: ReadinessPolicy,
    /// The inference protocol's server.
    pub grpc: GrpcConfig,
    /// The HTTP server.
    pub http: HttpConfig,
    /// What an image may be.
    pub images: ImagesConfig,
    /// The server for publishing.
    pub admin: AdminConfig,
    /// Who may use them.
    #[serde(default)]
    pub auth: AuthConfig,
    /// The Prometheus endpoint.
    pub metrics: MetricsConfig,
    /// How requests become batches.
    pub batching: BatchingConfig,
    /// How batches are computed.
    pub runtime: RuntimeConfig,
    /// Which versions of a model answer.
    #[serde(default)]
    pub version_policy: VersionPolicy,
    /// What holds for single models, by name.
    #[serde(default)]
    pub models: BTreeMap<String, ModelOverrides>,
    /// How much memory models may take.
    pub memory: MemoryConfig,
    /// What is logged of a request.
    pub log: LogConfig,
    /// What may be published.
    pub publish: PublishConfig,
    /// How the service stops.
    pub shutdown: ShutdownConfig,
}

/// When the service is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessPolicy {
    /// When every model answers that has not been unloaded.
    AllModels,
    /// When it has tried to load the models that were stored at its start.
    Server,
}

/// The inference protocol's server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may ask for predictions.
    pub access: Access,
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
    pub access: Access,
    /// Largest body, as sent and after inflating, bytes.
    pub max_body_bytes: usize,
    /// Longest time for a request's headers, and then for its body, to arrive, seconds.
    pub read_timeout_seconds: u64,
    /// Connections at a time.
    pub max_connections: usize,
}

/// What an image may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// Largest file, bytes.
    pub max_bytes: usize,
    /// Width times height, at most.
    pub max_pixels: u64,
    /// Calls whose images are decoded at a time, each on a thread of its own.
    pub decoders: usize,
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
    /// Who may read them.
    pub access: Access,
}

/// How much memory models may take.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Of all loaded versions together, as estimated; 0 for no limit.
    pub max_model_bytes: u64,
    /// What becomes of a version that would not fit beside those loaded.
    pub on_swap: SwapPolicy,
}

/// What becomes of a version that would not fit beside those loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapPolicy {
    /// It is refused.
    Refuse,
    /// The model's loaded versions are unloaded first; requests are refused until the new one is
    /// loaded.
    UnloadFirst,
}

/// What is logged of a request.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Whether every request has a line.
    pub access: bool,
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

impl InferenceConfig {
    /// The shipped configuration.
    #[cfg(test)]
    pub(crate) fn shipped() -> Self {
        let layers = common::config::Layers::shipped(SHIPPED);
        layers.load().expect("the shipped file is complete")
    }

    /// What holds for the model `name`.
    pub fn model(&self, name: &str) -> ModelConfig {
        let general = self.general();
        match self.models.get(name) {
            Some(overrides) => general.overridden(overrides),
            None => general,
        }
    }

    /// What holds for a model of which nothing else is said.
    fn general(&self) -> ModelConfig {
        ModelConfig {
            batching: self.batching,
            runtime: self.runtime,
            version_policy: self.version_policy.clone(),
            log_access: self.log.access,
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
            // What is wrong in general is not reported again for every model.
            if general_problems.is_empty() {
                let model = self.model(name);
                model.validate(problems, |_, field| format!("models.{name}.{field}"));
            }
        }
    }

    /// The port of the inference protocol.
    pub fn grpc_port(&self) -> ListenConfig {
        ListenConfig {
            table: "grpc",
            listen: self.grpc.listen,
            access: self.grpc.access,
        }
    }

    /// The port of the inference protocol over HTTP.
    pub fn http_port(&self) -> ListenConfig {
        ListenConfig {
            table: "http",
            listen: self.http.listen,
            access: self.http.access,
        }
    }

    /// The port for publishing and versions.
    pub fn admin_port(&self) -> ListenConfig {
        ListenConfig {
            table: "admin",
            listen: self.admin.listen,
            access: self.admin.access,
        }
    }

    /// The port of the Prometheus endpoint.
    pub fn metrics_port(&self) -> ListenConfig {
        ListenConfig {
            table: "metrics",
            listen: self.metrics.listen,
            access: self.metrics.access,
        }
    }
}

impl Validate for InferenceConfig {
    const NAMED_TABLES: &'static [&'static str] = &["models"];

    fn validate(&self, problems: &mut Problems) {
        let store = self.store.display();
        let has_store = !self.store.as_os_str().is_empty();
        problems.require(
            has_store,
            "store",
            format!("\"{store}\""),
            "give a folder for the models",
        );
        let ports = [
            self.grpc_port(),
            self.http_port(),
            self.admin_port(),
            self.metrics_port(),
        ];
        security::validate(self.grpc.tls.as_ref(), &self.auth, &ports, problems);
        self.validate_models(problems);
        self.publish.validate(problems);
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            let message = format!("must be {least} to {most}");
            problems.require((least..=most).contains(&value), key, value, &message);
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
mod tests {
    use common::config::Layers;

    use super::*;

    fn load(overrides: &[&str]) -> Result<InferenceConfig, String> {
        let layers = Layers {
            overrides: overrides.iter().map(Into::into).collect(),
            ..Layers::shipped(SHIPPED)
        };
        layers.load().map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_is_complete() {
        let config = load(&[]).unwrap();
        assert_eq!(config.http.listen.port(), 8000);
        assert_eq!(config.grpc.listen.port(), 8001);
        assert_eq!(config.metrics.listen.port(), 8002);
        assert_eq!(config.admin.listen.port(), 8003);
    }

    #[test]
    fn a_models_own_table_overrides_the_general_one() {
        let config = load(&[
            "models.cats.max_batch_size=8",
            "models.cats.deterministic=true",
            "models.cats.version_policy={ specific = { versions = [2] } }",
            "models.dogs.instances=3",
            "runtime.threads=2",
        ]);
        let config = config.unwrap();
        let cats = config.model("cats");
        assert_eq!(cats.batching.max_batch_size, 8);
        assert_eq!(cats.batching.max_queue_size, config.batching.max_queue_size);
        assert!(cats.runtime.deterministic);
        assert_eq!(cats.runtime.threads, 2);
        let versions = vec![2];
        assert_eq!(cats.version_policy, VersionPolicy::Specific { versions });
        let dogs = config.model("dogs");
        assert_eq!(dogs.runtime.instances, Instances::Count(3));
        assert_eq!(dogs.batching.max_batch_size, config.batching.max_batch_size);
        assert_eq!(
            dogs.version_policy,
            VersionPolicy::Latest { num_versions: 1 }
        );
    }

    #[test]
    fn other_machines_are_let_in_only_by_words_port_by_port() {
        for table in ["grpc", "http", "admin", "metrics"] {
            let open = format!("{table}.listen=0.0.0.0:1");
            let error = load(&[&open]).unwrap_err();
            let words = format!("{table}.access = \"anyone_who_reaches_the_port\"");
            assert!(error.contains(&words), "{error}");
            let words = format!("{table}.access=anyone_who_reaches_the_port");
            assert!(load(&[&open, &words]).is_ok());
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_both_keys() {
        let delay = "batching.max_queue_delay_microseconds=500000";
        for (settings, parts) in [
            (
                [delay, "batching.default_timeout_microseconds=500000"],
                [
                    "batching.default_timeout_microseconds = 500000",
                    "batching.max_queue_delay_microseconds = 500000",
                ],
            ),
            (
                [delay, "models.cats.default_timeout_microseconds=200000"],
                [
                    "models.cats.default_timeout_microseconds = 200000",
                    "models.cats.max_queue_delay_microseconds = 500000",
                ],
            ),
            (
                ["http.listen=127.0.0.1:9000", "admin.listen=127.0.0.1:9000"],
                ["admin.listen = 127.0.0.1:9000", "http.listen"],
            ),
        ] {
            let error = load(&settings).unwrap_err();
            assert!(error.starts_with("1 problem"), "{error}");
            for part in parts {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        }
        for settings in [
            [delay, "batching.default_timeout_microseconds=500001"],
            [delay, "batching.default_timeout_microseconds=0"],
            ["http.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"],
            ["http.listen=127.0.0.1:9000", "admin.listen=127.0.0.2:9000"],
        ] {
            assert!(load(&settings).is_ok(), "{settings:?}");
        }
    }

    #[test]
    fn names_of_models_keep_capitals_and_dots() {
        let layers = Layers {
            environment: vec![common::config::Variable {
                name: "RETORT_INFERENCE__MODELS__ResNet8__MAX_BATCH_SIZE".into(),
                key: "MODELS__ResNet8__MAX_BATCH_SIZE".into(),
                value: "4".into(),
            }],
            overrides: vec!["models.\"v1.0\".max_batch_size=5".into()],
            ..Layers::shipped(SHIPPED)
        };
        let config: InferenceConfig = layers.load().unwrap();
        assert_eq!(config.model("ResNet8").batching.max_batch_size, 4);
        assert_eq!(config.model("v1.0").batching.max_batch_size, 5);
        assert_eq!(config.model("resnet8").batching.max_batch_size, 64);
    }

    #[test]
    fn every_key_has_a_range() {
        for bad in [
            "store=",
            "readiness=some_models",
            "grpc.listen=localhost",
            "grpc.max_message_bytes=1",
            "grpc.model_control=anyone",
            "admin.access=everyone",
            "batching.max_batch_size=0",
            "batching.max_queue_delay_microseconds=1000001",
            "batching.max_queue_size=0",
            "batching.default_timeout_microseconds=-1",
            "batching.default_timeout_microseconds=3600000001",
            "runtime.instances=0",
            "runtime.instances=many",
            "runtime.deterministic=2",
            "version_policy={ latest = { num_versions = 0 } }",
            "version_policy={ newest = {} }",
            "models.a.threads=0",
            "models.a.max_batch=3",
            "memory.max_model_bytes=-1",
            "memory.on_swap=hope",
            "log.access=all",
            "runtime.threads=257",
            "http.listen=localhost",
            "http.max_body_bytes=0",
            "grpc.read_timeout_seconds=0",
            "grpc.max_connections=0",
            "http.read_timeout_seconds=0",
            "http.max_connections=0",
            "images.max_bytes=0",
            "images.max_pixels=0",
            "images.decoders=0",
            "publish.max_model_bytes=0",
            "publish.max_manifest_bytes=0",
            "publish.max_activation_bytes=0",
            "publish.load_timeout_seconds=0",
            "publish.upload_timeout_seconds=0",
            "publish.upload_timeout_seconds=86401",
            "shutdown.grace_seconds=3601",
            "shutdown.drain_seconds=-1",
            "shutdown.drain=1",
        ] {
            let error = load(&[bad]).unwrap_err();
            let key = bad.split_once('=').unwrap().0;
            assert!(error.contains(key), "{bad}: {error}");
        }
        for bad in ["models.-a.threads=1", "models.-a.threads=0"] {
            assert!(load(&[bad]).unwrap_err().contains("models.-a"), "{bad}");
        }
    }
}
