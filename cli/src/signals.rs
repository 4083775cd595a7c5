//! Signals that ask this process to stop.

use std::{fmt, fs, io};

use tokio::signal::unix::{self, SignalKind};

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What `kill` sends.
    Terminate,
    /// The terminal is gone.
    HangUp,
}

impl Signal {
    /// 128 + the signal's number, as shells have it: 130 for Ctrl-C.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::HangUp => 129,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        })
    }
}

/// Catches the signals of [`Signal`]: from its creation on, they no longer end the process.
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// Absent where it is ignored: `nohup` starts programs that go on when the terminal is gone.
    hang_up: Option<unix::Signal>,
}

impl Signals {
    /// Starts to catch them.
    pub(crate) fn listen() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hang_up = match ignores(&status, SignalKind::hangup()) {
            true => None,
            false => Some(unix::signal(SignalKind::hangup())?),
        };
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hang_up,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = hang_up => Signal::HangUp,
        }
    }
}

/// Whether a process ignores `signal`, by its `/proc/PID/status` (proc_pid_status(5)): a mask in
/// hexadecimal, signal 1 first from the right.
fn ignores(status: &str, signal: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

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
