//! Real processes for tests: started on free ports, watched by conditions, killed when dropped.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use networks::{ModelFile, NetworkSpec, Weights};

/// Longest time for a condition that should hold soon; generous, for a loaded machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
///
/// # Panics
/// When it has not within [`SOON`].
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The binary `name` of another crate of the workspace, built beside `own`, a binary of this one.
pub fn built_beside(own: &str, name: &str) -> PathBuf {
    let path = Path::new(own).with_file_name(name);
    assert!(
        path.exists(),
        "{} is not there: run `cargo build --release` first",
        path.display()
    );
    path
}

/// A child process whose standard error goes to a file.
pub struct Process {
    child: Child,
    folder: tempfile::TempDir,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("stderr")).unwrap();
        let child = command.stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, folder }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Sends a signal by its short name, `TERM`, `STOP`, `KILL`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success(), "{kill}");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let log = self.folder.path().join("stderr");
        let child = &mut self.child;
        eventually(
            &format!("the end of a process; see {}", log.display()),
            || child.try_wait().unwrap(),
        )
    }

    /// Waits for the ready file at `path`, as long as the process lives.
    pub fn ready(&mut self, path: &Path) -> BTreeMap<String, SocketAddr> {
        eventually("a ready file", || {
            let ready = common::ready_file::read(path).unwrap();
            assert!(ready.is_some() || self.is_running(), "{}", self.stderr());
            ready
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- process {}:\n{}", self.id(), self.stderr());
        }
    }
}

/// A running teacher-service on free ports.
pub struct Teacher {
    pub process: Process,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

impl Teacher {
    /// Serves `artifact` on one thread with further `key=value` settings.
    pub fn start(binary: &Path, artifact: &Path, settings: &[&str]) -> Self {
        Self::start_at(binary, artifact, "127.0.0.1:0", settings)
    }

    /// The same at a given address.
    pub fn start_at(binary: &Path, artifact: &Path, listen: &str, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready_file = folder.path().join("ready.json");
        let listen = format!("grpc.listen={listen}");
        let mut command = Command::new(binary);
        command.arg("serve").arg("--artifact").arg(artifact);
        command.arg("--ready-file").arg(&ready_file);
        let fixed = [&listen, "metrics.listen=127.0.0.1:0", "compute.threads=1"];
        for setting in fixed.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut process = Process::start(command);
        let addresses = process.ready(&ready_file);
        Self {
            process,
            grpc: addresses["grpc"],
            metrics: addresses["metrics"],
        }
    }

    /// Value of a line of `/metrics`, such as `retort_teacher_streams`; 0 where there is none.
    pub fn metric(&self, line: &str) -> f64 {
        let text = http_get(self.metrics, "/metrics");
        let value = text
            .lines()
            .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Batches answered so far.
    pub fn answered(&self) -> f64 {
        self.metric("retort_teacher_batches_total{outcome=\"answered\"}")
    }

    /// Bytes that arrived at the service's port and that the process has not read: with a stopped
    /// process, what was sent since.
    pub fn unread_bytes(&self) -> u64 {
        let port = format!(":{:04X}", self.grpc.port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let unread = |line: &str| {
            let mut columns = line.split_ascii_whitespace();
            let local = columns.nth(1)?;
            let queues = columns.nth(2)?;
            let received = queues.split_once(':')?.1;
            local
                .ends_with(&port)
                .then(|| u64::from_str_radix(received, 16).unwrap())
        };
        table.lines().skip(1).filter_map(unread).sum()
    }
}

/// Body of `http://address/path`.
pub fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// Writes an untrained teacher of `network` (TOML of a spec) into `folder`.
pub fn write_artifact(folder: &Path, network: &str, seed: u64) -> (ModelFile, Weights) {
    let network: NetworkSpec = toml::from_str(network).unwrap();
    let weights = Weights::initial(&network, seed).unwrap();
    let channels = network.input[0];
    let model = ModelFile {
        format_version: ModelFile::FORMAT_VERSION,
        class_names: (0..network.classes)
            .map(|class| format!("class {class}"))
            .collect(),
        normalization_mean: vec![0.3; channels],
        normalization_std: vec![0.4; channels],
        network,
    };
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("model.toml"), model.to_toml().unwrap()).unwrap();
    let bytes = weights.to_safetensors().unwrap();
    std::fs::write(folder.join("weights.safetensors"), bytes).unwrap();
    (model, weights)
}
