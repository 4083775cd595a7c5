//! Starts real processes, waits for conditions on them, and kills them when dropped.

use std::{
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{
    conditions::{SOON, eventually, eventually_within},
    wrapper,
};

/// Returns the path of another crate's binary `name`, in the folder of `own`, a binary of the caller's
/// crate.
///
/// # Panics
/// If the binary is not built.
pub fn built_beside(own: &str, name: &str) -> PathBuf {
    let path = Path::new(own).with_file_name(name);
    assert!(
        path.exists(),
        "{} does not exist: run `cargo build --release` first",
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

    /// Starts `command` with `stdout` as its standard output.
    pub fn start_with_output(mut command: Command, stdout: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("stderr")).unwrap();
        // Tests read the log, so it has the default level.
        command.env_remove("RUST_LOG");
        let mut command = wrapper::with_default_signals(&command);
        let child = command.stdout(stdout).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, folder }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// The peak resident memory so far in MiB, or `None` after the process ended.
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

    /// Waits until the process ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(SOON)
    }

    /// [`wait`](Self::wait) with the given time limit.
    pub fn wait_within(&mut self, limit: Duration) -> ExitStatus {
        let log = self.folder.path().join("stderr");
        let child = &mut self.child;
        eventually_within(
            limit,
            &format!("the end of a process; see {}", log.display()),
            || child.try_wait().unwrap(),
        )
    }

    /// Waits for the ready file at `path` and returns its addresses by port name.
    ///
    /// # Panics
    /// If the process ends first.
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

/// Sends a process the signal with this short name, such as `TERM`.
pub fn signal(process: u32, name: &str) {
    let signal = match name {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => panic!("{other}: add this signal here"),
    };
    let process = Pid::from_raw(process as i32).unwrap();
    match kill_process(process, signal) {
        // SRCH: the process has already ended and been reaped.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("{name}: {error}"),
    }
}
