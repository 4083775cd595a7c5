//! Starts, calls and stops the service's process.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use proto::{
    inference::{
        ModelInferRequest, ModelInferResponse, ModelStatistics, ModelStatisticsRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    publish::v1::{
        ActivateVersionRequest, DeleteModelRequest, DeleteVersionRequest, ListVersionsRequest,
        ModelVersion, PublishRequest, PublishResponse,
        publisher_service_client::PublisherServiceClient,
    },
};
use tempfile::TempDir;
use test_support::{Process, eventually, http_get, metric};
use tonic::{Status, transport::Channel};

pub const BINARY: &str = env!("CARGO_BIN_EXE_inference-service");
/// Time limit of steps that usually take milliseconds; long, for a loaded machine.
pub const PATIENCE: Duration = test_support::SOON;

/// Arguments that let the operating system choose every port.
pub const FREE_PORTS: [&str; 4] = [
    "--set=grpc.listen=127.0.0.1:0",
    "--set=http.listen=127.0.0.1:0",
    "--set=admin.listen=127.0.0.1:0",
    "--set=metrics.listen=127.0.0.1:0",
];

/// How a service is started.
#[derive(Default)]
pub struct ServiceOptions<'o> {
    /// Folder of the model store: by default a temporary one. An empty path gives no `--store`.
    pub store: Option<&'o Path>,
    /// Arguments of `--set`.
    pub set: &'o [&'o str],
    /// Additional environment variables.
    pub environment: &'o [(&'o OsStr, &'o OsStr)],
    /// Working directory: by default that of the test.
    pub folder: Option<&'o Path>,
}

/// A running service, killed when it is dropped.
pub struct Service {
    process: Process,
    addresses: BTreeMap<String, SocketAddr>,
    folder: TempDir,
}

/// The result of a process that has ended.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Service {
    /// Starts a service on free ports and waits until it serves.
    pub fn start(options: &ServiceOptions<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let own_store = folder.path().join("models");
        let ready = folder.path().join("ready.json");
        let mut command = Command::new(BINARY);
        command
            .arg("serve")
            .arg("--ready-file")
            .arg(&ready)
            .env("HOME", folder.path().join("home"));
        // Cargo's configuration and the machine set these variables, which users do not have. Each keeps ONNX
        // Runtime from reporting, or from writing below HOME.
        for name in ["ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.args(FREE_PORTS);
        for set in options.set {
            command.args(["--set", set]);
        }
        let store = options.store.unwrap_or(&own_store);
        if !store.as_os_str().is_empty() {
            command.arg("--store").arg(store);
        }
        command.envs(options.environment.iter().copied());
        if let Some(folder) = options.folder {
            command.current_dir(folder);
        }
        let mut process = Process::start(command);
        let addresses = process.ready(&ready);
        Self {
            process,
            addresses,
            folder,
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn address(&self, port: &str) -> String {
        self.socket(port).to_string()
    }

    pub fn socket(&self, port: &str) -> SocketAddr {
        self.addresses[port]
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Waits until the log satisfies `is_logged`: the service writes its log after its answers.
    pub fn log_once(&self, is_logged: impl Fn(&str) -> bool) -> String {
        eventually("a line in the log", || {
            Some(self.log()).filter(|log| is_logged(log))
        })
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Its `HOME`, a folder that does not exist when the service starts.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        let kilobytes: u64 = kilobytes.expect("a value").parse().expect("a number");
        kilobytes * 1024
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Waits for the end of a service that was asked to stop.
    pub fn wait(mut self) -> ExitStatus {
        self.process.wait()
    }

    pub async fn channel(&self, port: &str) -> Channel {
        let endpoint = server::grpc::endpoint(&self.address(port)).expect("a valid address");
        endpoint
            .connect()
            .await
            .expect("the service can be reached")
    }

    pub async fn inference(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel("grpc").await)
    }

    pub async fn publisher(&self) -> PublisherServiceClient<Channel> {
        PublisherServiceClient::new(self.channel("admin").await)
    }

    pub async fn publish(&self, upload: Vec<PublishRequest>) -> Result<PublishResponse, Status> {
        let upload = tokio_stream::iter(upload);
        let response = self.publisher().await.publish(upload).await?;
        Ok(response.into_inner())
    }

    pub async fn activate(&self, model: &str, version: u64) -> Result<u64, Status> {
        let request = ActivateVersionRequest {
            model_name: model.to_owned(),
            version,
        };
        let response = self.publisher().await.activate_version(request).await?;
        Ok(response.into_inner().previous_version)
    }

    pub async fn delete(&self, model: &str, version: u64) -> Result<(), Status> {
        let request = DeleteVersionRequest {
            model_name: model.to_owned(),
            version,
        };
        self.publisher()
            .await
            .delete_version(request)
            .await
            .map(drop)
    }

    pub async fn delete_model(&self, model: &str) -> Result<Vec<u64>, Status> {
        let request = DeleteModelRequest {
            model_name: model.to_owned(),
        };
        let response = self.publisher().await.delete_model(request).await?;
        Ok(response.into_inner().versions)
    }

    /// All versions of all models.
    pub async fn versions(&self) -> Vec<ModelVersion> {
        let all = ListVersionsRequest::default();
        let response = self.publisher().await.list_versions(all).await;
        response.expect("versions are listed").into_inner().versions
    }

    pub async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let response = self.inference().await.model_infer(request).await?;
        Ok(response.into_inner())
    }

    /// The version that answers a request for one sample.
    pub async fn serving_version(&self) -> String {
        let (request, _) = crate::support::infer_request(1);
        self.infer(request).await.expect("it answers").model_version
    }

    pub async fn statistics(&self) -> Vec<ModelStatistics> {
        let all = ModelStatisticsRequest::default();
        let response = self.inference().await.model_statistics(all).await;
        response
            .expect("statistics are given")
            .into_inner()
            .model_stats
    }

    /// The page of metrics.
    pub fn metrics(&self) -> String {
        http_get(self.addresses["metrics"], "/metrics")
    }

    /// The value of a line of the page of metrics, or 0 if the line is missing.
    pub fn metric(&self, line: &str) -> f64 {
        metric(self.addresses["metrics"], line)
    }
}

/// Runs the service's program until it ends.
pub fn run_to_the_end(arguments: &[&str]) -> Output {
    let output = Command::new(BINARY)
        .args(arguments)
        .output()
        .expect("the program starts");
    Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `serve` on free ports, with further `arguments`, until it ends.
pub fn serve_to_the_end(store: &Path, arguments: &[&str]) -> Output {
    let store = store.to_str().expect("a UTF-8 path");
    run_to_the_end(&[&["serve", "--store", store], &FREE_PORTS[..], arguments].concat())
}

/// Waits for `condition`, or panics after a long time.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    eventually("a condition", || condition().then_some(()));
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("the package is in the repository")
        .to_owned()
}
