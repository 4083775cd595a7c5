//! What the programs of the services have in common: command line, configuration, exit codes, runtime
//! and health check.

use std::{error::Error, ffi::OsString, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser};
use common::{
    config::{self, ConfigError, Layers, Validate},
    output::{self, Messages, Narration, OutputError},
    shutdown,
};
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    health_check::check_health,
    security::client::{ConnectError, CredentialArguments, Credentials},
};

/// Exit code for a wrong command line, as `clap` documents it.
pub const USAGE_EXIT_CODE: u8 = 2;

/// Exit code of a run that is complete, and whose model was not published because it misses a bound of its publish
/// gate.
pub const WITHHELD_EXIT_CODE: u8 = 3;

/// How long tasks of the runtime may still take once the work is done. A name lookup takes until the
/// operating system gives up.
const RUNTIME_GRACE: Duration = Duration::from_secs(2);

/// Parses the command line, calls `execute`, and turns its result into the exit code. A message on
/// standard error begins with `name`.
///
/// The exit code is 0 on success, 2 for a wrong command line, 64 for a bad configuration, that of
/// [`OutputError::exit_code`] if the result cannot be printed, that of an [`OtherExit`], and otherwise 1.
pub fn run<A, E>(name: &str, execute: impl FnOnce(A) -> Result<(), E>) -> ExitCode
where
    A: Parser,
    E: AsRef<dyn Error + Send + Sync>,
{
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return output::report_command_line(name, &error, USAGE_EXIT_CODE),
    };
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(name, error.as_ref()),
    }
}

fn report(name: &str, error: &(dyn Error + Send + Sync + 'static)) -> ExitCode {
    if let Some(error) = error.downcast_ref::<OutputError>() {
        return error.report(name);
    }
    // Without the chain of causes: each error's own text says everything.
    writeln!(Messages, "{name}: {error}");
    if let Some(exit) = error.downcast_ref::<OtherExit>() {
        ExitCode::from(exit.code)
    } else if error.is::<ConfigError>() {
        ExitCode::from(config::EXIT_CODE)
    } else {
        ExitCode::FAILURE
    }
}

/// An end that callers tell apart from a failure, by its exit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OtherExit {
    /// The process's exit code.
    pub code: u8,
    /// What happened.
    pub message: String,
}

/// A service's configuration, with the shipped defaults below it.
pub trait ServiceConfig: DeserializeOwned + Validate {
    /// The shipped file, which is compiled in.
    const SHIPPED: &'static str;

    /// Environment variables that begin with this prefix and two underscores set keys.
    const ENVIRONMENT_PREFIX: &'static str;
}

/// The options with which a command reads a service's configuration.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// TOML file laid over the shipped defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key; may be repeated. For a text key the value is text as it stands, or a TOML string
    /// in quotes; for any other key it is TOML.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<OsString>,
}

/// The options of a `serve` command that all services have.
#[derive(Debug, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Write the addresses in use here, as JSON, once serving.
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

impl ServeArguments {
    /// Reads the configuration: see [`ConfigArguments::load`].
    ///
    /// # Errors
    /// Every problem that [`Layers::load_with`] finds.
    pub fn load<T: ServiceConfig>(&self, flags: impl FnOnce(&mut T)) -> Result<T, ConfigError> {
        self.config.load(flags)
    }
}

impl ConfigArguments {
    /// Merges the shipped defaults, the file, the environment and `--set`; `flags` sets the keys that
    /// have options of their own.
    ///
    /// # Errors
    /// Every problem that [`Layers::load_with`] finds.
    pub fn load<T: ServiceConfig>(&self, flags: impl FnOnce(&mut T)) -> Result<T, ConfigError> {
        let layers = Layers {
            shipped: T::SHIPPED,
            file: self.config.clone(),
            environment: config::environment(T::ENVIRONMENT_PREFIX),
            overrides: self.overrides.clone(),
        };
        layers.load_with(flags)
    }
}

/// A running service that a command calls.
///
/// Each program sets its own default address:
/// `#[command(mut_arg("address", |address| address.default_value("127.0.0.1:50051")))]`.
#[derive(Debug, Args)]
pub struct PeerArguments {
    /// host:port of the service.
    #[arg(required = false)]
    address: String,
    /// Longest time to wait for an answer, seconds.
    #[arg(long, default_value_t = 5)]
    timeout: u64,
    #[command(flatten)]
    credentials: CredentialArguments,
}

/// Why the program cannot do what the command line asks.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The runtime did not start.
    #[error("cannot start the network threads: {0}")]
    Runtime(io::Error),
    /// The signal handlers were not installed.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The options for credentials contradict each other.
    #[error(transparent)]
    Credentials(#[from] ConnectError),
    /// The service is not healthy; the text names its address.
    #[error("{0}")]
    Unhealthy(String),
}

impl PeerArguments {
    /// host:port of the service.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Longest time to wait for an answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// The credentials for the service.
    ///
    /// # Errors
    /// [`ProgramError::Credentials`].
    pub fn credentials(&self) -> Result<Credentials, ProgramError> {
        Ok(self.credentials.credentials()?)
    }

    /// The `healthcheck` command: asks the service whether it is SERVING.
    ///
    /// # Errors
    /// If it is not, or cannot be asked.
    pub fn healthcheck(&self) -> Result<(), ProgramError> {
        let credentials = self.credentials()?;
        let check = check_health(&credentials, &self.address, self.timeout());
        with_runtime(&mut Builder::new_current_thread(), |runtime| {
            runtime.block_on(check).map_err(ProgramError::Unhealthy)
        })??;
        // The exit code is the answer, so a failed write does not matter.
        writeln!(Narration, "{} is serving", self.address);
        Ok(())
    }
}

/// Starts a runtime with all drivers.
///
/// # Errors
/// [`ProgramError::Runtime`].
pub fn start_runtime(builder: &mut Builder) -> Result<Runtime, ProgramError> {
    builder.enable_all().build().map_err(ProgramError::Runtime)
}

/// Calls `work` with a runtime of its own, which then ends within two seconds.
///
/// # Errors
/// [`ProgramError::Runtime`].
pub fn with_runtime<T>(
    builder: &mut Builder,
    work: impl FnOnce(&Runtime) -> T,
) -> Result<T, ProgramError> {
    let runtime = start_runtime(builder)?;
    let done = work(&runtime);
    runtime.shutdown_timeout(RUNTIME_GRACE);
    Ok(done)
}

/// Returns a token that the first signal of [`shutdown`] cancels.
///
/// # Errors
/// [`ProgramError::Signals`].
pub fn shutdown_token(runtime: &Runtime) -> Result<CancellationToken, ProgramError> {
    let _guard = runtime.enter();
    shutdown::on_signal().map_err(ProgramError::Signals)
}
