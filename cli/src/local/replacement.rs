//! Commands that another program executes.

use std::{env, ffi::OsString, os::unix::process::CommandExt, process};

use crate::CliError;

/// A program that stands beside this one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// Name of its file.
    pub(crate) name: &'static str,
    /// How to get it.
    pub(crate) build: &'static str,
}

/// Replaces this process by `program` with `arguments`, so that its output and exit code are those of the command.
/// Returns only if that fails.
pub(crate) fn replace_process(program: Program, arguments: Vec<OsString>) -> CliError {
    let path = env::current_exe().unwrap_or_default();
    let path = path.with_file_name(program.name);
    CliError::Program {
        error: process::Command::new(&path).args(arguments).exec(),
        build: program.build,
        program: path,
    }
}
