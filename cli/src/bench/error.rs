//! Errors of benchmarks.

use std::{io, path::PathBuf, process::ExitStatus};

use crate::NotText;

/// Why a benchmark failed; the message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A program is not in the folder of this program.
    #[error("cannot start {}: {error}; build all of Retort: cargo build --release", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A path that a program should get is not UTF-8.
    #[error(transparent)]
    Path(#[from] NotText),
    /// A program failed.
    #[error("{program} ended with {status}: {last_line}")]
    Failed {
        /// Its name.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// The last line of its standard error.
        last_line: String,
    },
    /// A program did not print valid figures.
    #[error("the output of {program} is invalid: {problem}")]
    Output {
        /// Its name.
        program: String,
        /// What is wrong with the output.
        problem: String,
    },
    /// A program did not become ready in time.
    #[error("{program} was not ready within {seconds} s: {last_line}")]
    NotReady {
        /// Its name.
        program: String,
        /// The time-out.
        seconds: u64,
        /// The last line of its standard error.
        last_line: String,
    },
    /// The operating system returned an error.
    #[error("{what}: {error}")]
    System {
        /// The operation that failed.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// Calls failed, so the times are meaningless.
    #[error("{failed} of {calls} calls failed; the first: {first}")]
    Calls {
        /// Number of failed calls.
        failed: u64,
        /// Number of calls.
        calls: u64,
        /// The first error message of the server.
        first: String,
    },
    /// No call ended within the measured time.
    #[error("no call ended within the time measured; measure longer with --seconds")]
    NoCalls,
    /// The server answers more slowly than the calls are made.
    #[error("the server does not keep up with {rate:.0} calls/s: {waiting} calls are waiting")]
    Overloaded {
        /// Calls per second.
        rate: f64,
        /// Calls without an answer yet.
        waiting: usize,
    },
}

impl BenchError {
    /// For `map_err`: wraps an I/O error of the operation `what`.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }
}
