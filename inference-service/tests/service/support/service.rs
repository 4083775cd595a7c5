//! Starting, calling and stopping the service's process.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::ready_file;
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
use tonic::{Status, transport::Channel};

pub const BINARY: &str = env!("CARGO_BIN_EXE_inference-service");
/// Longest time for what should happen soon; generous, for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a service is started.
#[derive(Default)]
pub struct ServiceOptions<'o> {
    /// Folder of the model store; one of the service's own unless given; not set where empty.
    pub store: Option<&'o Path>,
    /// Of `--set`.
    pub set: &'o [&'o str],
    /// Variables beside those of the test.
    pub environment: &'o [(&'o OsStr, &'o OsStr)],
    /// Its working directory; the test's unless given.
    pub folder: Option<&'o Path>,
}

/// A running service, killed when it is dropped.
pub struct Service {
    child: Child,
    addresses: BTreeMap<String, SocketAddr>,
    folder: TempDir,
}

/// What a process that ended by itself left.
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
        let log = File::create(folder.path().join("log")).expect("a log file");
        let mut command = Command::new(BINARY);
        command
            .arg("serve")
            .arg("--ready-file")
            .arg(&ready)
            .env("HOME", folder.path().join("home"))
            .stderr(Stdio::from(log));
        // Of cargo's configuration and of the machine's, which users of the program do not have. Each
        // keeps ONNX Runtime from reporting, or from writing below HOME.
        for name in ["ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        for key in ["grpc", "http", "admin", "metrics"] {
            command.args(["--set", &format!("{key}.listen=127.0.0.1:0")]);
        }
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
        let mut service = Self {
            child: command.spawn().expect("the service starts"),
            addresses: BTreeMap::new(),
            folder,
        };
        let began = Instant::now();
        service.addresses = loop {
            if let Some(addresses) = ready_file::read(&ready).expect("a readable ready file") {
                break addresses;
            }
            let ended = service.child.try_wait().expect("the child can be asked");
            let late = began.elapsed() > PATIENCE;
            assert!(
                ended.is_none() && !late,
                "the service does not serve: {}",
                service.log()
            );
            thread::sleep(Duration::from_millis(5));
        };
        service
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        let ended = self.child.try_wait().expect("the child can be asked");
        ended.is_none()
    }

    pub fn address(&self, port: &str) -> String {
        self.addresses[port].to_string()
    }

    /// What the service has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("the log is there")
    }

    /// The log, once `is_logged` holds: the service writes its log behind its answers.
    pub fn log_once(&self, is_logged: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let log = self.log();
            if is_logged(&log) {
                return log;
            }
            assert!(began.elapsed() < PATIENCE, "a line is missing: {log}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Its `HOME`, a folder that does not exist at its start.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        let kilobytes: u64 = kilobytes.expect("a value").parse().expect("a number");
        kilobytes * 1024
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it can be told");
    }

    /// Waits for the end of a service that was told to stop.
    pub fn wait(mut self) -> ExitStatus {
        let mut status = None;
        wait_until(|| {
            status = self.child.try_wait().expect("the child can be asked");
            status.is_some()
        });
        status.expect("the child has ended")
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

    /// Version numbers of all models, and which ones are active.
    pub async fn versions(&self) -> Vec<ModelVersion> {
        let all = ListVersionsRequest::default();
        let response = self.publisher().await.list_versions(all).await;
        response.expect("versions are listed").into_inner().versions
    }

    pub async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let response = self.inference().await.model_infer(request).await?;
        Ok(response.into_inner())
    }

    /// The version that answers a request of one sample.
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

    /// What Prometheus would read.
    pub fn metrics(&self) -> String {
        let address = self.address("metrics");
        let mut connection = TcpStream::connect(&address).expect("metrics can be reached");
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection
            .write_all(request.as_bytes())
            .expect("the request is sent");
        let mut response = String::new();
        connection
            .read_to_string(&mut response)
            .expect("the response is text");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Either may fail only where the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end.
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

/// Waits for `condition`, or panics after a long time.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("the package is in the repository")
        .to_owned()
}
