//! The errors of commands, and their exit codes.

use std::{io, path::PathBuf};

use artifacts::manifest::ManifestError;
use common::{output::OutputError, shutdown::Signal};
use datasets::DatasetError;
use model_signing::{KeyFileError, SigningError};
use onnx_runtime::SessionError;
use server::{
    program::WITHHELD_EXIT_CODE,
    security::{client::ConnectError, tokens_file::TokensError},
};
use soft_targets::StoreError;
use tonic::Code;

use crate::{
    NotText, distill::DistillError, local::LocalError, run_folder::RunFolderError,
    serve::ServeError,
};

/// Exit code for a wrong command line or configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = common::config::EXIT_CODE;

/// Why a command failed. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Arguments contradict each other, or the files and services that they name.
    #[error("{0}")]
    Usage(String),
    /// A path that is sent to another program is not UTF-8.
    #[error(transparent)]
    Path(#[from] NotText),
    /// An argument is not an address, or the credentials cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A tokens file cannot be used or changed; the message names it.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A service cannot be reached.
    #[error("cannot reach the {service} at {address}: {reason}; is it running?")]
    Unreachable {
        /// The service.
        service: &'static str,
        /// Its address.
        address: String,
        /// The cause.
        reason: String,
    },
    /// A service returned an error.
    #[error("the {service} at {address} answered {}: {message}", code_name(*code))]
    Refused {
        /// The service.
        service: &'static str,
        /// Its address.
        address: String,
        /// The gRPC code.
        code: Code,
        /// The service's message.
        message: String,
    },
    /// A service's answer violates the contract.
    #[error("the {service} at {address} sent an invalid answer: {problem}")]
    Answer {
        /// The service.
        service: &'static str,
        /// Its address.
        address: String,
        /// The problem.
        problem: String,
    },
    /// A training run failed or was cancelled.
    #[error("run `{id}` {state}: {reason} (its folder: {folder})")]
    RunEnded {
        /// The run's id.
        id: String,
        /// "failed" or "was cancelled".
        state: &'static str,
        /// The trainer's message.
        reason: String,
        /// The run's folder on the trainer's machine.
        folder: String,
    },
    /// Runs of a sweep failed or were cancelled. The command has said why.
    #[error("{failed} of {all} runs did not succeed; the same command resumes them")]
    RunsFailed {
        /// Runs that did not succeed.
        failed: usize,
        /// Runs of the sweep.
        all: usize,
    },
    /// A training run is complete, and its publish gate withheld its model.
    #[error("run `{id}`: {reason}")]
    Withheld {
        /// The run's id.
        id: String,
        /// The trainer's message, with each bound that the model misses.
        reason: String,
    },
    /// A finished run contradicts its configuration.
    #[error("{} is not verified: {problems}", folder.display())]
    NotVerified {
        /// The run's folder.
        folder: PathBuf,
        /// All contradictions.
        problems: String,
    },
    /// Images cannot be read; the message names the file.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// A manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A key cannot be used; the message names the file.
    #[error(transparent)]
    SigningKey(#[from] KeyFileError),
    /// A model cannot be signed; the message names the file.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The program that executes the command cannot be started.
    #[error("cannot start {}: {error}; {build}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// How to get it.
        build: &'static str,
        /// The operating system's error.
        error: io::Error,
    },
    /// Recorded soft targets cannot be used; the message names the file or folder.
    #[error(transparent)]
    SoftTargets(#[from] StoreError),
    /// The command reads and writes folders only.
    #[error(
        "\"{}\" is no file or folder of this machine, and `retort targets` uses no other; copy the recording's folder here \
         with your provider's tool, or let a run with soft_targets.mode = \"recorded\" verify a recording in a bucket",
        .0.display()
    )]
    NotLocal(PathBuf),
    /// Recordings or shards cannot be used. The command has listed them.
    #[error(
        "{recordings} recordings cannot be read, {shards} shards cannot be used; `retort record` with the \
         run's configuration records those shards again"
    )]
    FaultyTargets {
        /// Recordings whose description cannot be read.
        recordings: usize,
        /// Shards of the other recordings that cannot be used.
        shards: usize,
    },
    /// A local service cannot run.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Distilling failed.
    #[error(transparent)]
    Distill(#[from] DistillError),
    /// Models cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// ONNX Runtime cannot measure a network.
    #[error("cannot measure the network: {0}")]
    Measure(#[from] SessionError),
    /// A folder cannot be shown as a run; the message names the file.
    #[error(transparent)]
    RunFolder(#[from] RunFolderError),
    /// The result cannot be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The process cannot listen for signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// A signal, such as Ctrl-C, stopped the command.
    #[error("stopped by {0}")]
    Stopped(Signal),
}

impl CliError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Distill(_)
            | Self::Path(_)
            | Self::NotLocal(_)
            | Self::Connect(_)
            | Self::Tokens(_)
            | Self::SigningKey(_)
            | Self::RunFolder(RunFolderError::NoRun(_) | RunFolderError::InBucket(_))
            | Self::Refused {
                code: Code::InvalidArgument,
                ..
            } => EXIT_USAGE,
            Self::Withheld { .. } => WITHHELD_EXIT_CODE,
            Self::Stopped(signal) => signal.exit_code(),
            Self::Output(error) => error.exit_code(),
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::RunEnded { .. }
            | Self::RunsFailed { .. }
            | Self::NotVerified { .. }
            | Self::Data(_)
            | Self::Manifest(_)
            | Self::Signing(_)
            | Self::RunFolder(RunFolderError::Damaged { .. })
            | Self::File { .. }
            | Self::Program { .. }
            | Self::SoftTargets(_)
            | Self::FaultyTargets { .. }
            | Self::Local(_)
            | Self::Serve(_)
            | Self::Measure(_)
            | Self::Signals(_) => 1,
        }
    }

    /// For `map_err`: wraps an I/O error of `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}

/// The code's name in the gRPC specification, such as INVALID_ARGUMENT.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_as_in_the_specification() {
        assert_eq!(code_name(Code::InvalidArgument), "INVALID_ARGUMENT");
        assert_eq!(code_name(Code::Unavailable), "UNAVAILABLE");
    }

    #[test]
    fn a_bad_configuration_exits_with_64_a_refusal_with_1() {
        for (code, expected) in [(Code::InvalidArgument, 64), (Code::Unavailable, 1)] {
            let error = CliError::Refused {
                service: "trainer",
                address: "a:1".to_owned(),
                code,
                message: String::new(),
            };
            assert_eq!(error.exit_code(), expected);
        }
    }
}
