//! What can keep the demo from going on.

use std::{io, path::PathBuf};

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The operating system does not tell where this program lies.
    #[error("cannot find the folder of this program: {0}")]
    OwnPath(io::Error),
    /// A service's program is not beside this one.
    #[error(
        "there is no `{program}` beside this program, in {}; build all of Retort: cargo build \
         --release",
        folder.display()
    )]
    MissingProgram {
        /// The program.
        program: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A process could not be started.
    #[error("cannot start {name}: {error}")]
    Start {
        /// The process.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// A service's ready file cannot be read.
    #[error("{}: {error}", file.display())]
    ReadyFile {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A service does not get ready.
    #[error(
        "{name} was not ready within {seconds} s; the end of its log, {}:{last_lines}",
        log.display()
    )]
    NotReady {
        /// The service.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// The log's end.
        last_lines: String,
    },
    /// A process has ended that should have gone on, or without success.
    #[error("{name} has ended ({how}); the end of its log, {}:{last_lines}", log.display())]
    Ended {
        /// The process.
        name: String,
        /// Exit code or signal.
        how: String,
        /// Its log file.
        log: PathBuf,
        /// The log's end.
        last_lines: String,
    },
    /// The evaluation's figures cannot be used.
    #[error("{} is not what `student-trainer evaluate` should write: {problem}", file.display())]
    Evaluation {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A service listens on no such port.
    #[error("{service} tells of no `{port}` address")]
    NoAddress {
        /// The service.
        service: String,
        /// Which of its ports.
        port: &'static str,
    },
}
