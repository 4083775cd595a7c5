//! Runs Retort's programs as child processes, each pinned to its core.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::ready_file;
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::BenchError;
use crate::text_path::text_path;

const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A program in this program's folder, with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Program {
    name: &'static str,
    arguments: Vec<String>,
    core: Option<usize>,
}

impl Program {
    pub(super) fn new(name: &'static str, arguments: &[&str]) -> Self {
        Self {
            name,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            core: None,
        }
    }

    /// Pins the program to one core.
    pub(super) fn on_core(self, core: usize) -> Self {
        let core = Some(core);
        Self { core, ..self }
    }

    /// Runs the program to its end.
    pub(super) async fn run(self) -> Result<(), BenchError> {
        self.output().await.map(drop)
    }

    /// Runs the program to its end and parses the JSON that it prints.
    pub(super) async fn figures<T: DeserializeOwned>(self) -> Result<T, BenchError> {
        let output = self.output().await?;
        serde_json::from_slice(&output).map_err(|error| BenchError::Output {
            program: self.name.to_owned(),
            problem: error.to_string(),
        })
    }

    /// Starts the program with `--ready-file` and waits until it serves.
    pub(super) async fn serve(self) -> Result<Server, BenchError> {
        let folder = TempDir::new().map_err(BenchError::system("cannot make a folder"))?;
        let ready = folder.path().join("ready.json");
        let arguments = ["--ready-file".to_owned(), text_path(&ready)?.to_owned()];
        let started = Instant::now();
        let mut running = self.spawn(&arguments, Stdio::null())?;
        loop {
            let reading = || format!("cannot read {}", ready.display());
            let addresses = ready_file::read(&ready);
            if let Some(addresses) = addresses.map_err(BenchError::system(reading()))? {
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
                return Err(BenchError::NotReady {
                    program: self.name.to_owned(),
                    seconds: READY_WITHIN.as_secs(),
                    last_line: running.last_line(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn output(&self) -> Result<Vec<u8>, BenchError> {
        let running = self.spawn(&[], Stdio::piped())?;
        let output = tokio::task::spawn_blocking(move || running.output());
        // Cannot fail: the thread does not panic.
        output.await.expect("the thread ends")
    }

    fn spawn(&self, more: &[String], stdout: Stdio) -> Result<Running, BenchError> {
        // A file and not a pipe, because nothing reads it while the program runs.
        let log = tempfile::tempfile().map_err(BenchError::system("cannot make a file"))?;
        let stderr = log.try_clone();
        let mut command = Command::new(self.path()?);
        command
            .args(self.arguments.iter().chain(more))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr.map_err(BenchError::system("cannot share a file"))?);
        // A child inherits the core affinity of the thread that starts it.
        let core = self.core;
        let spawned = thread::spawn(move || {
            core.map_or(Ok(()), pin_this_thread)?;
            command.spawn()
        });
        // Cannot fail: the thread does not panic.
        let spawned = spawned.join().expect("the thread ends");
        let process = spawned.map_err(|error| BenchError::Start {
            program: self.name.into(),
            error,
        })?;
        Ok(Running {
            name: self.name,
            process,
            log,
        })
    }

    fn path(&self) -> Result<PathBuf, BenchError> {
        let own = std::env::current_exe();
        let own = own.map_err(BenchError::system("cannot find this program's folder"))?;
        Ok(own.with_file_name(self.name))
    }
}

/// A serving program. It is stopped on drop.
pub(super) struct Server {
    /// Addresses by the names in the ready file.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// Time from the start until it served.
    pub ready_after: Duration,
    running: Running,
}

impl Server {
    /// The address of its gRPC port.
    pub(super) fn grpc(&self) -> String {
        let address = self.addresses.get("grpc");
        address.map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.process.id()
    }
}

/// A child process that is stopped on drop.
struct Running {
    name: &'static str,
    process: Child,
    /// Its standard error.
    log: File,
}

impl Running {
    /// Waits for the end of the process and returns its standard output.
    fn output(mut self) -> Result<Vec<u8>, BenchError> {
        let mut stdout = Vec::new();
        let waiting = || BenchError::system(format!("cannot wait for {}", self.name));
        if let Some(mut pipe) = self.process.stdout.take() {
            pipe.read_to_end(&mut stdout).map_err(waiting())?;
        }
        let status = self.process.wait().map_err(waiting())?;
        if status.success() {
            Ok(stdout)
        } else {
            Err(self.failed(status))
        }
    }

    fn failed(&mut self, status: ExitStatus) -> BenchError {
        BenchError::Failed {
            program: self.name.to_owned(),
            status,
            last_line: self.last_line(),
        }
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
pub(super) fn usable_core(n: usize) -> std::io::Result<usize> {
    let usable = sched_getaffinity(None)?;
    let cores = (0..CpuSet::MAX_CPU).filter(|core| usable.is_set(*core));
    // A running process has at least one core.
    Ok(cores.take(n + 1).last().unwrap_or_default())
}

/// Pins the calling thread, and the threads and processes that it starts later, to one core.
pub(super) fn pin_this_thread(core: usize) -> std::io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}
