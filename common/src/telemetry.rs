//! Structured logs on standard error.
//!
//! A blocked log never blocks the program: lines that standard error does not take are dropped, counted
//! ([`metrics`]) and reported in the log when it takes lines again.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{IsTerminal, stderr},
    panic::{self, PanicHookInfo},
    thread,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing::error;
use tracing_subscriber::{EnvFilter, fmt};

use crate::output::LogLines;

/// Format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for humans.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// The log of a running program. Dropping it writes the remaining lines, for at most a second.
#[derive(Debug)]
#[must_use = "the end of the log is lost unless this lives as long as the program"]
pub struct Log(());

/// Sends `tracing` events of level `info` and above, and the messages of panics, to standard error;
/// `RUST_LOG` overrides the level, as `tracing-subscriber` documents it. Later calls change nothing.
pub fn init(format: LogFormat) -> Log {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(|| LogLines);
    // An error means that a subscriber is installed already, which is what the caller wants.
    let _ = match format {
        LogFormat::Human => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    // The standard library's hook would wait for a reader of standard error.
    panic::set_hook(Box::new(log_panic));
    Log(())
}

/// Returns the number of dropped log lines as a metric in Prometheus's text format.
pub fn metrics() -> String {
    const NAME: &str = "retort_log_lines_dropped_total";
    let dropped = LogLines::dropped();
    format!(
        "# HELP {NAME} Lines of the log that could not be written.\n\
         # TYPE {NAME} counter\n\
         {NAME} {dropped}\n"
    )
}

/// Writes the remaining log lines now, for a process that ends without unwinding.
pub fn flush() {
    LogLines::flush();
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => error!(thread, "{panic}\n{backtrace}"),
        _ => error!(thread, "{panic}"),
    }
    LogLines::flush();
}

impl Drop for Log {
    fn drop(&mut self) {
        LogLines::flush();
    }
}
