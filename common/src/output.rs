//! What programs print.
//!
//! Standard output and standard error may be closed, full, or a pipe that is not read. `println!` and
//! `eprintln!` panic there, or wait for ever, so Retort's programs print through one of three types,
//! each with `writeln!`:
//!
//! | type | stream | a failed write |
//! | --- | --- | --- |
//! | [`Results`] | standard output | is an error: what the command was asked for is not there |
//! | [`Narration`] | standard output | is ignored: the work that it describes goes on |
//! | [`Messages`] | standard error | is ignored, as above |

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
/// Waits as long as the reader needs.
#[derive(Debug, Clone, Copy)]
pub struct Results;

/// Standard output for progress of work that goes on without a reader: `writeln!(Narration, …)`.
#[derive(Debug, Clone, Copy)]
pub struct Narration;

/// Standard error for progress, notices and errors: `writeln!(Messages, …)`.
#[derive(Debug, Clone, Copy)]
pub struct Messages;

/// A result could not be written to standard output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result to standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// The exit code of a program that SIGPIPE ends, as shells show it.
const SIGPIPE_EXIT_CODE: u8 = 141;

/// How long a slow reader may delay the work that is reported.
const PATIENCE: Duration = Duration::from_secs(1);

static STDOUT: LazyLock<BackgroundWriter> = LazyLock::new(BackgroundWriter::stdout);
static STDERR: LazyLock<BackgroundWriter> = LazyLock::new(BackgroundWriter::stderr);

impl Results {
    /// What `write!` and `writeln!` call. The text has left this process when it returns.
    ///
    /// # Errors
    /// When standard output does not take the text.
    pub fn write_fmt(self, text: Arguments<'_>) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        let text = text.to_string();
        background::write_all(&mut stdout, text.as_bytes()).1?;
        Ok(background::retry(|| stdout.flush())?)
    }
}

impl Narration {
    /// What `write!` and `writeln!` call.
    pub fn write_fmt(self, text: Arguments<'_>) {
        STDOUT.write(text.to_string().as_bytes(), PATIENCE);
    }

    /// Whether the latest text could not be written, as when a pipe has no reader.
    pub fn is_cut_off(self) -> bool {
        STDOUT.has_failed()
    }
}

impl Messages {
    /// What `write!` and `writeln!` call.
    pub fn write_fmt(self, text: Arguments<'_>) {
        STDERR.write(text.to_string().as_bytes(), PATIENCE);
    }
}

/// Lines of the log, which hold nothing up: they are written when standard error takes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLines;

impl LogLines {
    /// Waits until all lines are written or dropped, for a bounded time.
    pub(crate) fn flush() {
        STDERR.flush(PATIENCE);
    }

    /// Lines dropped since the start: those that could not be written, and those for which there was
    /// no room while others waited.
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
    /// The reader of a pipe has gone.
    pub fn closed_pipe() -> Self {
        Self(io::ErrorKind::BrokenPipe.into())
    }

    /// Whether the reader of a pipe has gone, which is no fault: `retort models list | head -n 1`.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }

    /// The exit code of a program that cannot write its result: 141 as of a program that SIGPIPE ends,
    /// else 1.
    pub fn exit_code(&self) -> u8 {
        if self.is_closed_pipe() {
            SIGPIPE_EXIT_CODE
        } else {
            1
        }
    }

    /// Ends `program` as other tools end in a pipe: without a word when the reader has gone, else
    /// with a message.
    pub fn report(&self, program: &str) -> ExitCode {
        if !self.is_closed_pipe() {
            writeln!(Messages, "{program}: {self}");
        }
        ExitCode::from(self.exit_code())
    }
}

/// Prints help, the version, or what is wrong with a command line; the program's exit code, which is
/// `usage` in the last case.
pub fn report_command_line(program: &str, error: &clap::Error, usage: u8) -> ExitCode {
    match error.print() {
        // Nothing is left to do when neither stream takes the message.
        _ if error.use_stderr() => ExitCode::from(usage),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => OutputError(error).report(program),
    }
}
