//! Runs programs as child processes, each pinned to its cores if required.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io::{Read, Seek},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use common::ready_file;
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The name in messages.
    name: String,
    file: PathBuf,
    arguments: Vec<OsString>,
    /// Variables that it gets besides those of this program.
    environment: Vec<(String, String)>,
    /// The cores that it may use; empty for all.
    cores: Vec<usize>,
}

impl Program {
    /// The service's program `name` in the folder of this program.
    pub(crate) fn service(name: &str) -> anyhow::Result<Self> {
        Ok(Self::new(name, own_file()?.with_file_name(name)))
    }

    /// This program with the subcommand `part`.
    pub(crate) fn part(part: &str) -> anyhow::Result<Self> {
        Ok(Self::new(&format!("retort-bench {part}"), own_file()?).arg(part))
    }

    /// A script of the repository.
    pub(crate) fn script(file: &Path) -> anyhow::Result<Self> {
        let name = file.display().to_string();
        if !file.is_file() {
            bail!("{name} is missing: start the benchmark in the folder of the repository");
        }
        Ok(Self::new(&name, file.to_owned()))
    }

    fn new(name: &str, file: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            file,
            arguments: Vec::new(),
            environment: Vec::new(),
            cores: Vec::new(),
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args(self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Pins the program to one core.
    pub(crate) fn on_core(self, core: usize) -> Self {
        self.on_cores(&[core])
    }

    /// Pins the program to these cores.
    pub(crate) fn on_cores(self, cores: &[usize]) -> Self {
        let cores = cores.to_vec();
        Self { cores, ..self }
    }

    /// Runs the program to its end.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        self.output().await.map(drop)
    }

    /// Runs the program to its end and parses the JSON that it prints.
    pub(crate) async fn figures<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let output = self.output().await?;
        serde_json::from_slice(&output)
            .with_context(|| format!("the output of {} is invalid", self.name))
    }

    /// Starts the program with `--ready-file` and waits until it serves.
    pub(crate) async fn serve(self) -> anyhow::Result<Server> {
        let folder = TempDir::new().context("cannot create a folder")?;
        let ready = folder.path().join("ready.json");
        let program = self.arg("--ready-file").arg(&ready);
        let started = Instant::now();
        let mut running = program.spawn(Stdio::null())?;
        loop {
            let addresses = ready_file::read(&ready);
            if let Some(addresses) =
                addresses.with_context(|| format!("cannot read {}", ready.display()))?
            {
                return Ok(Server {
                    addresses,
                    ready_after: started.elapsed(),
                    running,
                });
            }
            if let Ok(Some(status)) = running.process.try_wait() {
                return Err(running.failed(status));
            }
            if started.elapsed() > READY_WITHIN {
                let (seconds, last_line) = (READY_WITHIN.as_secs(), running.last_line());
                let name = &running.name;
                bail!("{name} was not ready within {seconds} s: {last_line}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts the program, without its standard output.
    pub(crate) fn start(self) -> anyhow::Result<Running> {
        self.spawn(Stdio::null())
    }

    async fn output(&self) -> anyhow::Result<Vec<u8>> {
        let running = self.spawn(Stdio::piped())?;
        let output = tokio::task::spawn_blocking(move || running.output());
        // Cannot fail: the thread does not panic.
        output.await.expect("the thread ends")
    }

    fn spawn(&self, stdout: Stdio) -> anyhow::Result<Running> {
        // A file and not a pipe, because nothing reads it while the program runs.
        let log = tempfile::tempfile().context("cannot create a file")?;
        let stderr = log.try_clone().context("cannot share a file")?;
        let mut command = Command::new(&self.file);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        // A child inherits the core affinity of the thread that starts it.
        let cores = self.cores.clone();
        let spawned = thread::spawn(move || {
            if !cores.is_empty() {
                pin_this_thread(&cores)?;
            }
            command.spawn()
        });
        // Cannot fail: the thread does not panic.
        let spawned = spawned.join().expect("the thread ends");
        let process = spawned.with_context(|| {
            let file = self.file.display();
            format!("cannot start {file}; build all of Retort with `cargo build --release`")
        })?;
        Ok(Running {
            name: self.name.clone(),
            process,
            log,
        })
    }
}

fn own_file() -> anyhow::Result<PathBuf> {
    env::current_exe().context("cannot find the folder of this program")
}

/// A serving program. It is stopped on drop.
pub(crate) struct Server {
    /// Addresses by the names in the ready file.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// Time from the start until it served.
    pub ready_after: Duration,
    running: Running,
}

impl Server {
    /// The address of its gRPC port.
    pub(crate) fn grpc(&self) -> String {
        let address = self.addresses.get("grpc");
        address.map(ToString::to_string).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// A child process that is stopped on drop.
pub(crate) struct Running {
    name: String,
    process: Child,
    /// Its standard error.
    log: File,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// If it has failed; the message has the last line of its standard error.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        let waiting = || format!("cannot wait for {}", self.name);
        match self.process.try_wait().with_context(waiting)? {
            None => Ok(true),
            Some(status) if status.success() => Ok(false),
            Some(status) => Err(self.failed(status)),
        }
    }

    /// Waits for the end of the process and returns its standard output.
    fn output(mut self) -> anyhow::Result<Vec<u8>> {
        let mut stdout = Vec::new();
        let waiting = || format!("cannot wait for {}", self.name);
        if let Some(mut pipe) = self.process.stdout.take() {
            pipe.read_to_end(&mut stdout).with_context(waiting)?;
        }
        let status = self.process.wait().with_context(waiting)?;
        if status.success() {
            Ok(stdout)
        } else {
            Err(self.failed(status))
        }
    }

    fn failed(&mut self, status: ExitStatus) -> anyhow::Error {
        let last_line = self.last_line();
        anyhow!("{} ended with {status}: {last_line}", self.name)
    }

    fn last_line(&mut self) -> String {
        let mut text = String::new();
        // Show as much of the log as can be read.
        let _ = self.log.rewind();
        let _ = self.log.read_to_string(&mut text);
        text.lines()
            .next_back()
            .unwrap_or("(no output on standard error)")
            .to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        if kill_process(Pid::from_child(&self.process), Signal::TERM).is_ok() {
            let asked = Instant::now();
            while asked.elapsed() < STOP_GRACE {
                if !matches!(self.process.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(POLL);
            }
        }
        // If the operating system returns an error, there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The `n`th core, from 0, that this process may use, or the last one if there are fewer.
pub(crate) fn usable_core(n: usize) -> std::io::Result<usize> {
    // A running process has at least one core.
    Ok(usable_cores(n + 1)?.last().copied().unwrap_or_default())
}

/// The first `count` cores that this process may use, or all if there are fewer.
pub(crate) fn usable_cores(count: usize) -> std::io::Result<Vec<usize>> {
    let usable = sched_getaffinity(None)?;
    let cores = (0..CpuSet::MAX_CPU).filter(|core| usable.is_set(*core));
    Ok(cores.take(count).collect())
}

/// Pins the calling thread, and the threads and processes that it starts later, to these cores.
pub(crate) fn pin_this_thread(cores: &[usize]) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set)?)
}
