//! Real processes for tests: started on free ports, watched by conditions, killed when dropped.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use networks::{ModelFile, NetworkSpec, Weights};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

#[path = "../../../common/tests/support/wrapper.rs"]
pub mod wrapper;

/// Longest time for a condition that should hold soon; generous, for a loaded machine.
pub const SOON: Duration = Duration::from_secs(180);

/// Waits until `check` gives something.
///
/// # Panics
/// When it has not within [`SOON`].
pub fn eventually<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    eventually_within(SOON, what, check)
}

/// The same within `limit`.
pub fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `value` has been the same for a second.
pub fn eventually_constant(what: &str, mut value: impl FnMut() -> f64) {
    let mut last = (value(), Instant::now());
    eventually(&format!("the end of {what}"), || {
        let now = value();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
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
    pub fn start(command: Command) -> Self {
        Self::start_with_output(command, Stdio::inherit())
    }

    /// The same, with `stdout` as its standard output.
    pub fn start_with_output(mut command: Command, stdout: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("stderr")).unwrap();
        // What is logged is looked at.
        command.env_remove("RUST_LOG");
        let mut command = wrapper::with_default_signals(&command);
        let child = command.stdout(stdout).stderr(log).spawn();
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

    /// Its peak resident memory so far, MiB; `None` once it has ended.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        Some(kib / 1024)
    }

    /// Sends a signal by its short name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(SOON)
    }

    /// The same within `limit`.
    pub fn wait_within(&mut self, limit: Duration) -> ExitStatus {
        let log = self.folder.path().join("stderr");
        let child = &mut self.child;
        eventually_within(
            limit,
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

/// Sends a signal by its short name to a process.
pub fn signal(process: u32, name: &str) {
    let signal = match name {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => panic!("{other}: add it here"),
    };
    let process = Pid::from_raw(process as i32).unwrap();
    match kill_process(process, signal) {
        // It has ended already, and was waited for.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("{name}: {error}"),
    }
}

/// A running teacher-service on free ports.
pub struct Teacher {
    pub process: Process,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
}

impl Teacher {
    /// Serves `artifact` on one thread of the CPU with further `key=value` settings.
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
        let fixed = [
            &listen,
            "metrics.listen=127.0.0.1:0",
            "compute.device=cpu",
            "compute.threads=1",
        ];
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
        metric(self.metrics, line)
    }

    /// Batches answered so far.
    pub fn answered(&self) -> f64 {
        self.metric("retort_teacher_batches_total{outcome=\"answered\"}")
    }
}

/// Value of a line of `http://address/metrics`; 0 where there is none.
pub fn metric(address: SocketAddr, line: &str) -> f64 {
    metric_in(&http_get(address, "/metrics"), line)
}

/// The same in the text of a page of metrics.
pub fn metric_in(text: &str, line: &str) -> f64 {
    let value = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
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
        weights_sha256: None,
        class_names: class_names(network.classes),
        normalization_mean: vec![0.3; channels],
        normalization_std: vec![0.4; channels],
        network,
    };
    let bytes = weights.to_safetensors().unwrap();
    let model = model.with_weights(&bytes);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("model.toml"), model.to_toml().unwrap()).unwrap();
    std::fs::write(folder.join("weights.safetensors"), bytes).unwrap();
    (model, weights)
}

/// Names of as many classes, those that runs have unless they say otherwise.
pub fn class_names(classes: usize) -> Vec<String> {
    let defaults: toml::Table = include_str!("../../../configs/run.toml").parse().unwrap();
    let names = defaults["data"]["class_names"].as_array().unwrap();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    let more = (names.len()..).map(|class| format!("class {class}"));
    names.chain(more).take(classes).collect()
}

/// Writes a training split of random images and labels of 10 classes, as plain IDX files.
pub fn write_idx(folder: &Path, samples: usize, [height, width]: [usize; 2]) {
    // A linear congruential generator (Knuth, MMIX): the same data every time.
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let header = |kind: u8, sizes: &[usize]| {
        let mut header = vec![0, 0, 8, kind];
        header.extend(sizes.iter().flat_map(|size| (*size as u32).to_be_bytes()));
        header
    };
    let mut images = header(3, &[samples, height, width]);
    images.extend((0..samples * height * width).map(|_| next()));
    let mut labels = header(1, &[samples]);
    labels.extend((0..samples).map(|_| next() % 10));
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("train-images-idx3-ubyte"), images).unwrap();
    std::fs::write(folder.join("train-labels-idx1-ubyte"), labels).unwrap();
}

/// Host `number` of this process alone: all of 127/8 is this machine.
pub fn own_host(number: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, number)
}

/// An address on which nobody listens. Its host is nobody else's, so no other test, and no
/// connection, can be given its port meanwhile.
pub fn unused_address() -> String {
    // Downwards: those who number their own hosts begin with 1.
    static NEXT: AtomicU8 = AtomicU8::new(u8::MAX);
    let host = own_host(NEXT.fetch_sub(1, Ordering::Relaxed));
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}
