//! Signals that ask this process to stop.

use std::{
    fmt, fs,
    future::poll_fn,
    io,
    task::Poll,
    time::{Duration, Instant},
};

use rustix::process::{Signal as UnixSignal, getpid, kill_process};
use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry;

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, the default of `kill`.
    Terminate,
    /// SIGINT, Ctrl-C in a terminal.
    Interrupt,
    /// SIGHUP: the terminal was closed.
    HangUp,
    /// SIGQUIT, Ctrl-\ in a terminal.
    Quit,
}

/// Catches the signals of [`Signal`], so that they no longer end the process.
///
/// A signal that was ignored when the process started stays ignored: `nohup` starts programs that continue
/// when the terminal is closed, and a shell's background jobs ignore Ctrl-C.
#[derive(Debug)]
pub struct Signals {
    caught: Vec<(Signal, unix::Signal)>,
    requests: Requests,
}

/// Signals within this time are one request to stop: `timeout` sends its signal to a process and to its group,
/// and both the kernel and the shell send SIGHUP.
const ONE_REQUEST: Duration = Duration::from_millis(500);

/// Listens for the signals of [`Signals`]. The first cancels the returned token; a second one, except SIGHUP,
/// at least half a second later, ends the process at once.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// If the operating system does not install a signal handler.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut signals = Signals::listen()?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let signal = signals.next().await;
        info!(%signal, "shutting down; another signal ends this process at once");
        cancelled.cancel();
        let signal = signals.next().await;
        warn!(%signal, "ending at once");
        telemetry::flush();
        // Not `exit`, which would wait for busy libraries.
        let _ = kill_process(getpid(), UnixSignal::KILL);
        // Process 1 of a container cannot kill itself.
        std::process::abort();
    });
    Ok(token)
}

impl Signals {
    /// Starts to catch the signals. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the operating system does not install a signal handler.
    pub fn listen() -> io::Result<Self> {
        // Caught and ignored, so that a write beyond a file's size limit (`ulimit -f`) fails and does not end the
        // process.
        let _ = unix::signal(SignalKind::from_raw(UnixSignal::XFSZ.as_raw()))?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut caught = Vec::new();
        for signal in Signal::ALL {
            if signal == Signal::Terminate || !ignores(&status, signal.kind()) {
                caught.push((signal, unix::signal(signal.kind())?));
            }
        }
        Ok(Self {
            caught,
            requests: Requests::default(),
        })
    }

    /// Waits for the next request. A second one is a signal other than SIGHUP, at least half a second
    /// after the first.
    pub async fn next(&mut self) -> Signal {
        loop {
            let signal = self.next_signal().await;
            if self.requests.is_new_request(signal, Instant::now()) {
                return signal;
            }
        }
    }

    async fn next_signal(&mut self) -> Signal {
        poll_fn(|context| {
            let ready = self.caught.iter_mut().find_map(|(signal, stream)| {
                stream.poll_recv(context).is_ready().then_some(*signal)
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Decides which signals are separate requests.
#[derive(Debug, Default)]
struct Requests {
    first: Option<Instant>,
}

impl Requests {
    fn is_new_request(&mut self, signal: Signal, now: Instant) -> bool {
        match self.first {
            None => {
                self.first = Some(now);
                true
            }
            Some(first) => signal != Signal::HangUp && now.duration_since(first) >= ONE_REQUEST,
        }
    }
}

impl Signal {
    const ALL: [Self; 4] = [Self::Terminate, Self::Interrupt, Self::HangUp, Self::Quit];

    /// The exit code of a program that the signal ended: 128 + the signal's number, 130 for Ctrl-C.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::HangUp => 129,
            Self::Interrupt => 130,
            Self::Quit => 131,
            Self::Terminate => 143,
        }
    }

    fn kind(self) -> SignalKind {
        match self {
            Self::Terminate => SignalKind::terminate(),
            Self::Interrupt => SignalKind::interrupt(),
            Self::HangUp => SignalKind::hangup(),
            Self::Quit => SignalKind::quit(),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT (Ctrl-C)",
            Self::HangUp => "SIGHUP",
            Self::Quit => "SIGQUIT",
        })
    }
}

/// Whether a process ignores `signal` according to its `/proc/PID/status` (proc_pid_status(5)): a hexadecimal
/// mask whose lowest bit is signal 1. Without `unsafe`, no API reads a signal's disposition without changing it.
fn ignores(status: &str, signal: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_may_be_several_signals_and_sighup_never_insists() {
        let began = Instant::now();
        for first in Signal::ALL {
            let mut requests = Requests::default();
            assert!(requests.is_new_request(first, began));
            for (signal, milliseconds, expected) in [
                (first, 0, false),
                (Signal::Terminate, 499, false),
                (Signal::HangUp, 5_000, false),
                (Signal::Interrupt, 500, true),
                (Signal::Quit, 5_000, true),
            ] {
                let now = began + Duration::from_millis(milliseconds);
                assert_eq!(
                    requests.is_new_request(signal, now),
                    expected,
                    "{first}, {signal}"
                );
            }
        }
    }

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status =
            |mask: &str| format!("Name:\tretort\nSigIgn:\t{mask}\nSigCgt:\t0000000000000001\n");
        for (mask, hang_up, terminate) in [
            ("0000000000000000", false, false),
            ("0000000000000001", true, false),
            ("0000000000001001", true, false),
            ("0000000000004000", false, true),
        ] {
            let status = status(mask);
            assert_eq!(ignores(&status, SignalKind::hangup()), hang_up, "{mask}");
            assert_eq!(
                ignores(&status, SignalKind::terminate()),
                terminate,
                "{mask}"
            );
        }
        assert!(!ignores("", SignalKind::hangup()));
    }
}
