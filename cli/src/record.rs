//! `retort record`: records soft targets before a run.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;

use crate::CliError;

const EXAMPLES: &str = "\
Examples:
  retort record configs/demo/student.toml --set 'teacher.endpoints=[\"127.0.0.1:50051\"]' \\
      --set soft_targets.folder=targets --set soft_targets.views=4
  retort record run.toml --index 0 --of 8

The run itself then needs no teacher: --set soft_targets.mode=recorded. After an interruption the same
command continues where it stopped. It needs `student-trainer` beside this program.";

/// Record a teacher's soft targets on this machine, before a run that uses them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RecordArguments {
    /// The run's configuration, TOML, with [teacher], and with folder and views in [soft_targets].
    config: PathBuf,
    /// Overrides one key of the configuration; may be repeated. For a text key the value is text as it
    /// stands, or a TOML string in quotes; for any other key it is TOML.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    overrides: Vec<OsString>,
    /// Records the share of this worker, from 0 to N - 1, instead of all shards. Workers can record at the same
    /// time into one folder on a shared file system, or into a bucket [default, with --of: the variable
    /// JOB_COMPLETION_INDEX].
    #[arg(long, value_name = "I", requires = "of")]
    index: Option<u32>,
    /// Number of workers that record together.
    #[arg(long, value_name = "N")]
    of: Option<NonZeroU32>,
}

/// `retort record`: replaces this process by `student-trainer record`, which has the augmentation and the
/// teacher pool.
pub(crate) fn execute(arguments: &RecordArguments) -> Result<(), CliError> {
    let own = std::env::current_exe().map_err(CliError::file("retort"))?;
    let program = own
        .parent()
        .unwrap_or(Path::new("."))
        .join("student-trainer");
    let mut command = Command::new(&program);
    command.arg("record").arg(&arguments.config);
    for setting in &arguments.overrides {
        command.arg("--set").arg(setting);
    }
    if let Some(index) = arguments.index {
        command.arg("--index").arg(index.to_string());
    }
    if let Some(of) = arguments.of {
        command.arg("--of").arg(of.to_string());
    }
    // `exec` returns only if it failed.
    Err(CliError::file(program)(command.exec()))
}
