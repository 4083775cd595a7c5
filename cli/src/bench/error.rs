//! Why a benchmark gives no figures.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why a benchmark gives no figures; the text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A program does not stand beside this one.
    #[error("cannot start {}: {error}; build all of Retort: cargo build --release", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A program failed.
    #[error("{program} ended with {status}: {last_words}")]
    Failed {
        /// Its name.
        program: String,
        /// How.
        status: ExitStatus,
        /// The end of what it wrote to its error stream.
        last_words: String,
    },
    /// A program printed something else than figures.
    #[error("{program} printed something that is not understood: {problem}")]
    Output {
        /// Its name.
        program: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A program does not come up.
    #[error("{program} was not ready within {seconds} s: {last_words}")]
    NotReady {
        /// Its name.
        program: String,
        /// The time that it had.
        seconds: u64,
        /// The end of what it wrote to its error stream.
        last_words: String,
    },
    /// The operating system refused.
    #[error("{what}: {error}")]
    System {
        /// What was wanted of it.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// Calls failed, so that times mean nothing.
    #[error("{failed} of {calls} calls failed; the first: {first}")]
    Calls {
        /// How many did.
        failed: u64,
        /// How many were made.
        calls: u64,
        /// The server's words.
        first: String,
    },
    /// No call ended in the time measured.
    #[error("no call ended within the time measured; measure longer with --seconds")]
    NoCalls,
    /// Calls are made faster than the server answers.
    #[error("the server does not keep up with {rate:.0} calls/s: {waiting} calls are waiting")]
    Overloaded {
        /// Calls a second.
        rate: f64,
        /// Calls that have no answer yet.
        waiting: usize,
    },
}

impl BenchError {
    /// For `map_err`: an I/O error while doing `what`.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }
}
