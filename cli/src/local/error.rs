//! Errors of services that run as processes of this machine.

use std::{io, path::PathBuf};

use crate::NotText;

/// Why a local service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A path that a program should get is not UTF-8.
    #[error(transparent)]
    Path(#[from] NotText),
    /// The path of this program is unknown.
    #[error("cannot find the folder of this program: {0}")]
    OwnPath(io::Error),
    /// A service's program is not in the folder of this program.
    #[error(
        "the program `{program}` is missing in {}, the folder of this program; build all of Retort: \
         cargo build --release",
        folder.display()
    )]
    MissingProgram {
        /// The program.
        program: String,
        /// The searched folder.
        folder: PathBuf,
    },
    /// A process cannot be started.
    #[error("cannot start {name}: {error}")]
    Start {
        /// The process.
        name: String,
        /// The cause.
        error: io::Error,
    },
    /// A service's ready file cannot be read.
    #[error("{}: {error}", file.display())]
    ReadyFile {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A service did not become ready in time.
    #[error(
        "{name} was not ready within {seconds} s; the end of its log, {}:{last_lines}",
        log.display()
    )]
    NotReady {
        /// The service.
        name: String,
        /// The time-out.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// The log's end.
        last_lines: String,
    },
    /// A process ended unexpectedly or without success.
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
    /// The results of an evaluation are invalid.
    #[error("{} is not a valid result of `student-trainer evaluate`: {problem}", file.display())]
    Evaluation {
        /// The file.
        file: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A service does not report an address for a port.
    #[error("{service} does not report a `{port}` address in its ready file")]
    NoAddress {
        /// The service.
        service: String,
        /// The port.
        port: &'static str,
    },
}
