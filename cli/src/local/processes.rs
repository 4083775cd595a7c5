//! Services as child processes that end with this program unless they are detached.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use common::ready_file;
use rustix::process::{Pid, Signal as UnixSignal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time,
};

use super::LocalError;
use crate::{CliError, text_path::text_path};

/// A service that is not ready by then has failed; loading libtorch from a cold disk takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(20);
/// Time between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// How long the exit of a service may take to be noticed after a call to it failed.
const DEATH_NOTICE: Duration = Duration::from_secs(1);
/// Lines of an ended process's log in the error.
const SHOWN_LOG_LINES: usize = 12;

/// Starts and stops processes.
pub(crate) struct Processes {
    programs: PathBuf,
    logs: PathBuf,
    running: Vec<Running>,
    orders: watch::Sender<Order>,
    deaths: mpsc::UnboundedSender<Ended>,
}

/// Reports services that end unexpectedly.
pub(crate) struct Deaths(mpsc::UnboundedReceiver<Ended>);

/// A service that is ready.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub name: String,
    pub pid: u32,
    pub addresses: BTreeMap<String, SocketAddr>,
}

struct Running {
    pid: u32,
    supervisor: JoinHandle<Supervised>,
}

/// The outcome of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supervised {
    Ended,
    Detached,
}

/// A command to the supervisors of all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Watch,
    Terminate,
    Kill,
    Detach,
}

struct Ended {
    name: String,
    log: PathBuf,
    status: io::Result<ExitStatus>,
}

/// The receiver of a process's exit.
enum Listener {
    /// Receives the unexpected exit of a service.
    Deaths(mpsc::UnboundedSender<Ended>),
    /// Waits for the exit of a command.
    Caller(oneshot::Sender<Ended>),
}

/// A child process that is killed on drop, unless it was detached.
struct Guarded {
    child: Child,
    detached: bool,
}

impl Processes {
    /// Processes run the programs in this program's folder and write their output below `logs`.
    pub(crate) fn new(logs: PathBuf) -> Result<(Self, Deaths), LocalError> {
        let own = std::env::current_exe().map_err(LocalError::OwnPath)?;
        let programs = own.parent().unwrap_or(Path::new(".")).to_owned();
        let (deaths, receiver) = mpsc::unbounded_channel();
        let processes = Self {
            programs,
            logs,
            running: Vec::new(),
            orders: watch::Sender::new(Order::Watch),
            deaths,
        };
        Ok((processes, Deaths(receiver)))
    }

    /// Checks that all `programs` exist.
    pub(crate) fn check(&self, programs: &[&str]) -> Result<(), LocalError> {
        let missing = programs
            .iter()
            .find(|program| !self.programs.join(program).is_file());
        match missing {
            None => Ok(()),
            Some(program) => Err(LocalError::MissingProgram {
                program: (*program).to_owned(),
                folder: self.programs.clone(),
            }),
        }
    }

    /// Starts `program serve ARGUMENTS` as `name` and waits until it is ready.
    pub(crate) async fn serve(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[String],
    ) -> Result<Service, LocalError> {
        let ready_file = self.logs.join(format!("{name}.ready.json"));
        let mut all = vec!["serve".to_owned()];
        all.extend_from_slice(arguments);
        all.extend([
            "--ready-file".to_owned(),
            text_path(&ready_file)?.to_owned(),
        ]);
        let pid = self.spawn(name, program, &all, Listener::Deaths(self.deaths.clone()))?;
        let ready = async {
            loop {
                match ready_file::read(&ready_file) {
                    Ok(Some(addresses)) => return Ok(addresses),
                    Ok(None) => time::sleep(READY_POLL).await,
                    Err(error) => {
                        return Err(LocalError::ReadyFile {
                            file: ready_file,
                            error,
                        });
                    }
                }
            }
        };
        // `Deaths` reports a service that ends before it is ready.
        let addresses = time::timeout(READY_WITHIN, ready).await.map_err(|_| {
            let log = self.log(name);
            LocalError::NotReady {
                name: name.to_owned(),
                seconds: READY_WITHIN.as_secs(),
                last_lines: last_lines(&log),
                log,
            }
        })??;
        let name = name.to_owned();
        Ok(Service {
            name,
            pid,
            addresses,
        })
    }

    /// Runs `program ARGUMENTS` as `name` until it ends successfully.
    pub(crate) async fn finish(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[String],
    ) -> Result<(), LocalError> {
        let (sender, ended) = oneshot::channel();
        self.spawn(name, program, arguments, Listener::Caller(sender))?;
        match ended.await {
            Ok(Ended {
                status: Ok(status), ..
            }) if status.success() => Ok(()),
            Ok(ended) => Err(ended.into_error()),
            // The supervisor is stopping the process, so this future is about to be dropped.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops all processes: SIGTERM, then SIGKILL after a grace period, or at once when `hurry` resolves.
    pub(crate) async fn stop(&mut self, hurry: impl Future<Output = ()>) {
        self.orders.send_replace(Order::Terminate);
        let orders = self.orders.clone();
        let all_ended = async {
            for running in self.running.drain(..) {
                // A supervisor fails only with its runtime, which also kills the child.
                let _ = running.supervisor.await;
            }
        };
        tokio::pin!(all_ended);
        tokio::select! {
            () = &mut all_ended => return,
            () = hurry => {}
        }
        orders.send_replace(Order::Kill);
        all_ended.await;
    }

    /// Detaches all running processes, so that they outlive this program, and returns their ids.
    pub(crate) async fn detach(&mut self) -> Vec<u32> {
        self.orders.send_replace(Order::Detach);
        let mut left = Vec::new();
        for running in self.running.drain(..) {
            if let Ok(Supervised::Detached) = running.supervisor.await {
                left.push(running.pid);
            }
        }
        left
    }

    fn spawn(
        &mut self,
        name: &str,
        program: &str,
        arguments: &[String],
        listener: Listener,
    ) -> Result<u32, LocalError> {
        let log = self.log(name);
        let failed = |error| LocalError::Start {
            name: name.to_owned(),
            error,
        };
        let output = File::create(&log).map_err(failed)?;
        let child = Command::new(self.programs.join(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            // Ctrl-C in the terminal reaches only this program, which stops its children in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        // Only a child that was waited for has no id.
        let pid = child.id().unwrap_or_default();
        let guarded = Guarded {
            child,
            detached: false,
        };
        let (name, orders) = (name.to_owned(), self.orders.subscribe());
        let supervisor = tokio::spawn(supervise(guarded, name, log, orders, listener));
        self.running.push(Running { pid, supervisor });
        Ok(pid)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

impl Deaths {
    /// Replaces the error of a failed call by the exit of a service that caused it.
    pub(crate) async fn root_cause(&mut self, error: CliError) -> CliError {
        let call_failed = matches!(
            error,
            CliError::Unreachable { .. } | CliError::Refused { .. }
        );
        if !call_failed {
            return error;
        }
        match time::timeout(DEATH_NOTICE, self.next()).await {
            Ok(death) => death.into(),
            Err(_) => error,
        }
    }

    /// Waits until a service ends unexpectedly.
    pub(crate) async fn next(&mut self) -> LocalError {
        match self.0.recv().await {
            Some(ended) => ended.into_error(),
            // All senders are dropped, so no service can start.
            None => std::future::pending().await,
        }
    }
}

async fn supervise(
    mut guarded: Guarded,
    name: String,
    log: PathBuf,
    mut orders: watch::Receiver<Order>,
    listener: Listener,
) -> Supervised {
    let status = tokio::select! {
        status = guarded.child.wait() => Some(status),
        () = ordered(&mut orders, |order| order != Order::Watch) => None,
    };
    let Some(status) = status else {
        let order = *orders.borrow();
        return match order {
            Order::Detach => {
                guarded.detached = true;
                Supervised::Detached
            }
            Order::Watch | Order::Terminate | Order::Kill => {
                terminate(&mut guarded.child, &mut orders).await;
                Supervised::Ended
            }
        };
    };
    let ended = Ended { name, log, status };
    // If the receiver is dropped, this program is ending.
    let _ = match listener {
        Listener::Deaths(sender) => sender.send(ended).is_ok(),
        Listener::Caller(sender) => sender.send(ended).is_ok(),
    };
    Supervised::Ended
}

/// Sends SIGTERM, then SIGKILL after the grace period or on order; returns when the child has ended.
async fn terminate(child: &mut Child, orders: &mut watch::Receiver<Order>) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // An error means that the child has just ended.
        let _ = kill_process(pid, UnixSignal::TERM);
    }
    tokio::select! {
        _ = child.wait() => return,
        () = time::sleep(STOP_GRACE) => {}
        () = ordered(orders, |order| order == Order::Kill) => {}
    }
    // An error means that the child has just ended.
    let _ = child.kill().await;
}

/// Waits for a matching order; also returns when the sender is dropped.
async fn ordered(orders: &mut watch::Receiver<Order>, fits: impl Fn(Order) -> bool) {
    let _ = orders.wait_for(|order| fits(*order)).await;
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.detached {
            // An error means that the child has ended already.
            let _ = self.child.start_kill();
        }
    }
}

impl Ended {
    fn into_error(self) -> LocalError {
        let how = match self.status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        LocalError::Ended {
            name: self.name,
            how,
            last_lines: last_lines(&self.log),
            log: self.log,
        }
    }
}

/// The last lines of a log file, indented.
fn last_lines(log: &Path) -> String {
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    };
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
    shown.iter().map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests;
