//! Configuration of `student-trainer serve`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use common::config::{Problems, Validate};
use object_storage::Location;
use serde::{Deserialize, Serialize};
use server::{
    listen::PortAccess,
    metrics_server::MetricsConfig,
    program::ServiceConfig,
    security::{self, AuthConfig, ListenConfig, tls::ServerTls},
};

use super::AllowedFolders;

/// The configuration of the run service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// Folder that holds one folder per run, or the URL of a prefix in a bucket.
    pub runs_folder: PathBuf,
    /// Runs in a bucket.
    pub bucket: BucketConfig,
    /// Folders below which submitted runs may read and write.
    pub allowed_folders: AllowedFolders,
    /// Limits of the queue.
    pub queue: QueueConfig,
    /// The gRPC server.
    pub grpc: GrpcConfig,
    /// Tokens of the clients.
    #[serde(default)]
    pub auth: AuthConfig,
    /// The Prometheus endpoint.
    pub metrics: MetricsConfig,
    /// How the service stops.
    pub shutdown: ShutdownConfig,
}

/// How runs are kept in a bucket, if `runs_folder` is the URL of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// Folder of this machine for the scratch folders of the queue and of the runs; by default, one for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
    /// Seconds after which another service may continue the queue and the run of one that no longer reaches the bucket.
    pub lease_seconds: u64,
    /// How long the service and each run wait for a bucket that does not answer, at their beginning and at their end.
    pub patience_seconds: u64,
}

/// Limits of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    /// Number of runs that may wait; more are rejected.
    pub waiting_runs: usize,
    /// Number of ended runs that the service still lists. It removes older ones from the queue, but keeps
    /// their folders.
    pub remembered_runs: usize,
}

/// Address and limits of the gRPC server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Port 0 picks a free port.
    pub listen: SocketAddr,
    /// Who may use the service.
    pub access: PortAccess,
    /// The certificate of every port; without it, connections are plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Largest number of open connections.
    pub max_connections: usize,
    /// Longest time for a call to arrive, in seconds.
    pub read_timeout_seconds: u64,
    /// Largest message accepted, in bytes.
    pub max_message_bytes: usize,
}

/// How the service stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// Longest time for the running run to stop, in seconds.
    pub drain_seconds: u64,
}

impl ServiceConfig for TrainerConfig {
    const SHIPPED: &'static str = include_str!("../../../configs/student-trainer.toml");
    const ENVIRONMENT_PREFIX: &'static str = "RETORT_TRAINER";
}

impl TrainerConfig {
    /// The port of the gRPC server.
    pub fn grpc_port(&self) -> ListenConfig {
        ListenConfig {
            table: "grpc",
            listen: self.grpc.listen,
            access: self.grpc.access,
        }
    }
}

impl BucketConfig {
    /// How long the service and each run wait for a bucket that does not answer.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds)
    }
}

impl ShutdownConfig {
    /// Longest time for the running run to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

impl Validate for TrainerConfig {
    fn validate(&self, problems: &mut Problems) {
        let Self {
            runs_folder,
            bucket,
            allowed_folders,
            queue,
            grpc,
            auth,
            metrics: _,
            shutdown,
        } = self;
        let location = Location::parse(runs_folder);
        if let Err(problem) = &location {
            let shown = format!("\"{}\"", runs_folder.display());
            problems.add("runs_folder", shown, &problem.to_string());
        }
        if let (Ok(Location::Folder(_)), Some(scratch)) = (&location, &bucket.scratch) {
            let needed = "needs the URL of a bucket as runs_folder";
            problems.add("bucket.scratch", scratch.display(), needed);
        }
        problems.require_within("bucket.lease_seconds", bucket.lease_seconds, 1..=3600);
        let patience = bucket.patience_seconds;
        problems.require_within("bucket.patience_seconds", patience, 1..=86_400);
        allowed_folders.validate(problems);
        problems.require_within("queue.waiting_runs", queue.waiting_runs, 1..=100_000);
        problems.require_within("queue.remembered_runs", queue.remembered_runs, 0..=100_000);
        let ports = [self.grpc_port(), self.metrics.port()];
        security::validate(grpc.tls.as_ref(), auth, &ports, problems);
        problems.require_within("grpc.max_connections", grpc.max_connections, 1..=65_536);
        problems.require_within(
            "grpc.max_message_bytes",
            grpc.max_message_bytes,
            1024..=1 << 30,
        );
        for (key, seconds) in [
            ("grpc.read_timeout_seconds", grpc.read_timeout_seconds),
            ("shutdown.drain_seconds", shutdown.drain_seconds),
        ] {
            problems.require_within(key, seconds, 1..=3600);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::config::{ConfigError, Layers};

    use super::*;

    fn load(overrides: &[&str]) -> Result<TrainerConfig, ConfigError> {
        let layers = Layers {
            overrides: overrides.iter().map(Into::into).collect(),
            ..Layers::shipped(TrainerConfig::SHIPPED)
        };
        layers.load()
    }

    #[test]
    fn the_shipped_configuration_is_valid() {
        load(&[]).unwrap();
    }

    #[test]
    fn ports_are_open_to_other_machines_only_if_access_says_so() {
        let anywhere = "grpc.listen=0.0.0.0:1";
        let error = load(&[anywhere]).unwrap_err();
        assert!(
            error.to_string().contains("anyone_who_reaches_the_port"),
            "{error}"
        );
        let access = "grpc.access=anyone_who_reaches_the_port";
        assert!(load(&[anywhere, access]).is_ok());
    }

    #[test]
    fn runs_are_in_a_folder_or_in_a_bucket_which_alone_has_a_scratch_folder() {
        let scratch = "bucket.scratch=/var/scratch";
        let bucket = "runs_folder=s3://bucket/runs";
        let config = load(&[bucket, scratch]).unwrap();
        assert_eq!(config.bucket.patience(), Duration::from_secs(300));
        assert_eq!(config.bucket.lease_seconds, 30);
        load(&[bucket]).unwrap();
        let error = load(&[scratch]).unwrap_err().to_string();
        assert!(error.contains("needs the URL of a bucket"), "{error}");
        let error = load(&["runs_folder="]).unwrap_err().to_string();
        assert!(error.contains("runs_folder"), "{error}");
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let wrong = [
            "queue.waiting_runs=0",
            "shutdown.drain_seconds=0",
            "grpc.max_connections=0",
            "grpc.read_timeout_seconds=3601",
            "grpc.port=1",
            "allowed_folders=[]",
            "runs_folder=ftp://bucket/runs",
            "bucket.lease_seconds=0",
            "bucket.patience_seconds=86401",
            "metrics.listen=127.0.0.1:50052",
        ];
        let error = load(&wrong).unwrap_err();
        for key in [
            "queue.waiting_runs",
            "shutdown.drain_seconds",
            "grpc.max_connections",
            "grpc.read_timeout_seconds",
            "port",
            "allowed_folders",
            "runs_folder = \"ftp://bucket/runs\": must be a folder",
            "bucket.lease_seconds",
            "bucket.patience_seconds",
            "metrics.listen = 127.0.0.1:50052: is taken by grpc.listen = 127.0.0.1:50052",
        ] {
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
