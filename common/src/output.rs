//! Output of programs.
//!
//! Standard output and standard error may be closed, full, or a pipe without a reader. `println!` and
//! `eprintln!` then panic or block, so Retort's programs print with `writeln!` through one of three types:
//!
//! | type | stream | a failed write |
//! | --- | --- | --- |
//! | [`Results`] | standard output | is an error: the user did not get the result |
//! | [`Narration`] | standard output | is ignored: the work continues |
//! | [`Messages`] | standard error | is ignored: the work continues |

use std::{
    fmt::Arguments,
    io::{self, Write},
    process::ExitCode,
    sync::LazyLock,
    time::Duration,
};

use background::BackgroundWriter;

mod background;

/// Standard output for the result of a command: `writeln!(Results, …)?`.
///
/// Blocks until the reader has taken the text.
#[derive(Debug, Clone, Copy)]
pub struct Results;

/// Standard output for progress of work that continues without a reader: `writeln!(Narration, …)`.
#[derive(Debug, Clone, Copy)]
pub struct Narration;

/// Standard error for progress, notices and errors: `writeln!(Messages, …)`.
#[derive(Debug, Clone, Copy)]
pub struct Messages;

/// The error for a result that could not be written to standard output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// The exit code that shells show for a program that SIGPIPE ended.
const SIGPIPE_EXIT_CODE: u8 = 141;

/// Longest time for which a slow reader may delay the work.
const PATIENCE: Duration = Duration::from_secs(1);

static STDOUT: LazyLock<BackgroundWriter> = LazyLock::new(BackgroundWriter::stdout);
static STDERR: LazyLock<BackgroundWriter> = LazyLock::new(BackgroundWriter::stderr);

impl Results {
    /// Called by `write!` and `writeln!`. Returns when the text has left this process.
    ///
    /// # Errors
    /// If standard output does not take the text.
    pub fn write_fmt(self, text: Arguments<'_>) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        let text = text.to_string();
        background::write_all(&mut stdout, text.as_bytes()).1?;
        Ok(background::retry(|| stdout.flush())?)
    }
}

impl Narration {
    /// Called by `write!` and `writeln!`.
    pub fn write_fmt(self, text: Arguments<'_>) {
        STDOUT.write(text.to_string().as_bytes(), PATIENCE);
    }

    /// Whether the latest text could not be written, for example because a pipe has no reader.
    pub fn is_cut_off(self) -> bool {
        STDOUT.has_failed()
    }
}

impl Messages {
    /// Called by `write!` and `writeln!`.
    pub fn write_fmt(self, text: Arguments<'_>) {
        STDERR.write(text.to_string().as_bytes(), PATIENCE);
    }
}

/// The writer of log lines, which never blocks: a thread writes them when standard error takes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLines;

impl LogLines {
    /// Waits until all lines are written or dropped, for a bounded time.
    pub(crate) fn flush() {
        STDERR.flush(PATIENCE);
    }

    /// The number of lines dropped since the start, because they could not be written or the buffer was full.
    pub(crate) fn dropped() -> u64 {
        STDERR.dropped()
    }
}

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OutputError {
    /// The error for a pipe whose reader has closed it.
    pub fn closed_pipe() -> Self {
        Self(io::ErrorKind::BrokenPipe.into())
    }

    /// Whether the reader of a pipe has closed it, which is normal in `retort models list | head -n 1`.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }

    /// The exit code of a program that cannot write its result: 141 for a closed pipe, as after SIGPIPE, and
    /// otherwise 1.
    pub fn exit_code(&self) -> u8 {
        if self.is_closed_pipe() {
            SIGPIPE_EXIT_CODE
        } else {
            1
        }
    }

    /// Returns the exit code of `program`, and prints a message unless the reader has closed the pipe.
    pub fn report(&self, program: &str) -> ExitCode {
        if !self.is_closed_pipe() {
            writeln!(Messages, "{program}: {self}");
        }
        ExitCode::from(self.exit_code())
    }
}

/// Prints help, the version, or the problem with a command line. Returns the exit code, which is `usage` in
/// the last case.
pub fn report_command_line(program: &str, error: &clap::Error, usage: u8) -> ExitCode {
    match error.print() {
        // If neither stream takes the message, there is no other way to report the problem.
        _ if error.use_stderr() => ExitCode::from(usage),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => OutputError(error).report(program),
    }
}
