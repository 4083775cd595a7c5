//! Checks of every service as a process: it continues when its log cannot be written, ends on every
//! stop signal, and has a ready file only while it serves.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write, pipe},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::ready_file;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    conditions::eventually,
    metrics_page::http_get,
    wrapper::{started_by, with_default_signals},
};

const DROPPED: &str = "retort_log_lines_dropped_total ";

/// A standard error to which writing fails or blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stderr {
    Full,
    WithoutReader,
    /// The reader is open and does not read.
    NotRead,
}

/// Builds the command that starts the service, with all ports on 127.0.0.1:0 and without a ready file.
pub type Service<'s> = &'s dyn Fn() -> Command;

/// Runs every check of this module. `key` is the configuration key of a listen address.
pub fn check(service: Service<'_>, key: &str) {
    for (stderr, signal) in [
        (Stderr::Full, Signal::TERM),
        (Stderr::WithoutReader, Signal::HUP),
        (Stderr::NotRead, Signal::QUIT),
    ] {
        continues_without_its_log(service, stderr, signal);
    }
    continues_after_sighup_under_nohup(service);
    removes_the_ready_file_of_a_killed_process(service, key);
}

fn continues_without_its_log(service: Service<'_>, stderr: Stderr, signal: Signal) {
    let case = format!("{stderr:?} {signal:?}");
    let (stderr_stream, _reader) = stderr.open();
    let mut command = with_default_signals(&service());
    let running = Running::start(command.stderr(stderr_stream), &case);
    let dropped = || -> u64 {
        let metrics = running.metrics();
        let dropped = metrics.lines().find_map(|line| line.strip_prefix(DROPPED));
        dropped.expect("the page has the metric").parse().unwrap()
    };
    if stderr == Stderr::NotRead {
        // A reader that does not read yet may do so later, so the few lines so far are kept.
        assert_eq!(dropped(), 0, "{case}");
    } else {
        // A thread writes the log, so the count rises with a delay.
        eventually(&case, || (dropped() > 0).then_some(()));
    }
    running.end(signal, &case);
}

fn continues_after_sighup_under_nohup(service: Service<'_>) {
    // nohup makes the service ignore SIGHUP.
    let mut running = Running::start(&mut started_by("nohup", &[], &service()), "nohup");
    let status = fs::read_to_string(format!("/proc/{}/status", running.process.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    assert_eq!(caught & 1, 0, "SIGHUP is caught: {caught:x}");
    running.signal(Signal::HUP);
    running.metrics();
    assert!(
        running.process.try_wait().unwrap().is_none(),
        "ended by SIGHUP"
    );
    running.end(Signal::TERM, "nohup");
}

fn removes_the_ready_file_of_a_killed_process(service: Service<'_>, key: &str) {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready.json");
    let mut killed = Running::start_at(&ready, &mut with_default_signals(&service()), "killed");
    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    assert!(
        ready.exists(),
        "a process that is killed leaves its ready file"
    );
    // The port of the next process is taken, so it never serves.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("{key}={}", taken.local_addr().unwrap());
    let mut command = service();
    command.arg("--ready-file").arg(&ready);
    let refused = command.args(["--set", &listen]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        !ready.exists(),
        "the ready file exists although no process serves"
    );
}

impl Stderr {
    /// Opens the stream, and returns its reader if that stays open.
    fn open(self) -> (OwnedFd, Option<UnixStream>) {
        match self {
            Self::Full => {
                let full = File::options().write(true).open("/dev/full");
                (full.unwrap().into(), None)
            }
            Self::WithoutReader => (pipe().unwrap().1.into(), None),
            Self::NotRead => {
                let (mut writer, reader) = UnixStream::pair().unwrap();
                writer.set_nonblocking(true).unwrap();
                let full = loop {
                    if let Err(error) = writer.write(&[b'x'; 4096]) {
                        break error;
                    }
                };
                assert_eq!(full.kind(), ErrorKind::WouldBlock);
                writer.set_nonblocking(false).unwrap();
                (writer.as_fd().try_clone_to_owned().unwrap(), Some(reader))
            }
        }
    }
}

/// A service that is ready. Dropping this value kills it.
struct Running {
    process: Child,
    metrics: SocketAddr,
    ready: PathBuf,
    /// Holds the ready file, unless the caller chose its path.
    folder: Option<tempfile::TempDir>,
}

impl Running {
    fn start(command: &mut Command, case: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut running = Self::start_at(&folder.path().join("ready.json"), command, case);
        running.folder = Some(folder);
        running
    }

    fn start_at(ready: &Path, command: &mut Command, case: &str) -> Self {
        // nohup redirects standard output to a file only if it is a terminal.
        command.arg("--ready-file").arg(ready).stdout(Stdio::null());
        let mut process = command.spawn().unwrap();
        let addresses = eventually(case, || {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "{case}: {ended:?}");
            ready_file::read(ready).unwrap()
        });
        Self {
            process,
            metrics: addresses["metrics"],
            ready: ready.to_owned(),
            folder: None,
        }
    }

    fn metrics(&self) -> String {
        http_get(self.metrics, "/metrics")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Stops the service with `signal` and checks that it exits with 0 and removes its ready file.
    fn end(mut self, signal: Signal, case: &str) {
        self.signal(signal);
        let status = eventually(case, || self.process.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{case}: {status}");
        assert!(!self.ready.exists(), "{case}: the ready file still exists");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
