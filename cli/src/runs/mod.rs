//! `retort run` and `retort runs`: training runs on a trainer.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use common::{
    os_text,
    output::{Narration, OutputError, Results},
    shutdown::Signals,
};
use proto::runs::v1::{Run, RunState, watch_run_response::Event};
use server::security::client::CredentialArguments;
use tokio::sync::oneshot;

use crate::{CliError, client::Remote, run_config::RunConfigText};

mod compare;
mod event_dedup;
mod history;
mod progress;
mod submission;
mod trainer;
mod verification;

use compare::CompareArguments;
pub(crate) use history::{PhaseHistory, RunHistory};
pub(crate) use progress::{Progress, Style, screen_style};
pub(crate) use submission::submit_and_watch;
pub(crate) use trainer::{Observer, RunClient, watch};

pub(crate) const DEFAULT_TRAINER: &str = "127.0.0.1:50052";
pub(crate) const TRAINER_VARIABLE: &str = "RETORT_TRAINER_ADDRESS";

const RUN_EXAMPLES: &str = "\
Examples:
  retort run configs/run.toml
  retort run configs/demo/student.toml --name student --set seed=2 \\
      --set 'teacher.endpoints=[\"127.0.0.1:50051\"]'
  retort run configs/run.toml --detach      submit only; watch later with `retort runs watch ID`
  retort run --verify runs/student          check that it used each sample, view and teacher once

Ctrl-C cancels the run and waits until the trainer has stopped it; a second Ctrl-C exits at once. The exit code is 3 if
the run is complete and its model was not published, because it misses a bound of [publish.gate].";

/// Submits a training run to a trainer and watches it.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArguments {
    /// The run's configuration, TOML; overrides the trainer's defaults (configs/run.toml).
    #[arg(required_unless_present = "verify")]
    config: Option<PathBuf>,
    /// Verifies the finished run in this folder instead of submitting one: recomputes the digest of the
    /// consumed training data. Exit code 1 if it differs.
    #[arg(long, value_name = "RUN_FOLDER", conflicts_with_all = ["config", "name", "overrides", "detach"])]
    verify: Option<PathBuf>,
    /// host:port of the trainer.
    #[arg(long, value_parser = os_text::argument(), env = TRAINER_VARIABLE, default_value = DEFAULT_TRAINER)]
    trainer: String,
    /// Name of the run and its folder [default: the file's name].
    #[arg(long)]
    name: Option<String>,
    /// Overrides one key of the configuration; may be repeated. For a text key the value is text as it
    /// stands, or a TOML string in quotes; for any other key it is TOML.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    overrides: Vec<OsString>,
    /// Submits the run and does not wait for it.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    credentials: CredentialArguments,
}

const RUNS_EXAMPLES: &str = "\
Examples:
  retort runs list
  retort runs show student
  retort runs watch student        all events so far, then new ones; Ctrl-C does not stop the run
  retort runs cancel student
  retort runs resume student       continue a cancelled, failed or withheld run from its last checkpoint
  retort runs compare runs/a runs/b --html comparison.html
                                   folders on this machine; needs no trainer

A withheld run is complete, but its model misses a bound of [publish.gate] and was not published.";

/// Lists, shows, watches, cancels, resumes and compares training runs.
#[derive(Debug, Args)]
#[command(after_help = RUNS_EXAMPLES)]
pub struct RunsArguments {
    /// host:port of the trainer.
    #[arg(long, value_parser = os_text::argument(), env = TRAINER_VARIABLE, default_value = DEFAULT_TRAINER, global = true)]
    trainer: String,
    #[command(flatten)]
    credentials: CredentialArguments,
    #[command(subcommand)]
    command: RunsCommand,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    #[command(flatten)]
    OfTrainer(TrainerCommand),
    Compare(CompareArguments),
}

#[derive(Debug, Subcommand)]
enum TrainerCommand {
    /// List all runs that the trainer knows, oldest first.
    List,
    /// Show a run's state, its folder, and why it ended.
    Show {
        /// The run's id, as `retort runs list` prints it.
        run_id: String,
    },
    /// Show the events of a run until it ends.
    Watch {
        /// The run's id, as `retort runs list` prints it.
        run_id: String,
    },
    /// Queue a failed, withheld or cancelled run again; it continues from its last checkpoint.
    Resume {
        /// The run's id, as `retort runs list` prints it.
        run_id: String,
    },
    /// Remove a run from the queue, or stop it.
    Cancel {
        /// The run's id, as `retort runs list` prints it.
        run_id: String,
    },
}

/// The default name of a run: that of its file.
pub(crate) fn run_name(file: &Path) -> Result<String, CliError> {
    let stem = file.file_stem().unwrap_or_default();
    let name = stem.to_str().map(str::to_owned);
    name.ok_or_else(|| {
        CliError::Usage(format!(
            "the file name {file:?} is not UTF-8; name the run with --name"
        ))
    })
}

/// `retort run`.
pub(crate) async fn run(arguments: RunArguments) -> Result<(), CliError> {
    if let Some(folder) = &arguments.verify {
        return verification::verify(folder);
    }
    let file = arguments.config.unwrap_or_default();
    let mut config = RunConfigText::read(&file)?;
    for argument in arguments.overrides {
        config.add_override(argument)?;
    }
    let name = match arguments.name {
        Some(name) => name,
        None => run_name(&file)?,
    };
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let remote = Remote::trainer(&arguments.trainer).with(&arguments.credentials)?;
    let trainer = RunClient::connect(remote).await?;
    let run = trainer.submit(&name, &config).await?;
    if arguments.detach {
        writeln!(Results, "run {} in {}", run.run_id, run.folder)?;
        return Ok(());
    }
    // From here on only the run decides the exit code, even if nothing reads the output.
    writeln!(Narration, "run {} in {}", run.run_id, run.folder);
    let mut progress = Progress::new(screen_style());
    let mut observers: [&mut dyn Observer; 1] = [&mut progress];
    let watched = watch(&trainer, &run.run_id, &mut observers);
    tokio::pin!(watched);
    let signal = tokio::select! {
        ended = &mut watched => return report_end(&ended?),
        signal = signals.next() => signal,
    };
    writeln!(
        Narration,
        "cancelling the run; a second Ctrl-C exits without waiting"
    );
    let cancelled = async {
        trainer.cancel(&run.run_id).await?;
        watched.await
    };
    tokio::select! {
        ended = cancelled => {
            let ended = ended?;
            writeln!(Narration, "run {} {}; its folder: {}", ended.run_id, state_text(&ended), ended.folder);
        }
        _ = signals.next() => {}
    }
    Err(CliError::Stopped(signal))
}

/// `retort runs`.
pub(crate) async fn execute(arguments: RunsArguments) -> Result<(), CliError> {
    let command = match arguments.command {
        RunsCommand::Compare(arguments) => return compare::execute(&arguments),
        RunsCommand::OfTrainer(command) => command,
    };
    let remote = Remote::trainer(&arguments.trainer).with(&arguments.credentials)?;
    let trainer = RunClient::connect(remote).await?;
    match command {
        TrainerCommand::List => {
            writeln!(Results, "{:<24} {:<14} FOLDER", "RUN", "STATE")?;
            for run in trainer.list().await? {
                writeln!(
                    Results,
                    "{:<24} {:<14} {}",
                    run.run_id,
                    state_text(&run),
                    run.folder
                )?;
            }
            Ok(())
        }
        TrainerCommand::Show { run_id } => Ok(show(&trainer.get(&run_id).await?)?),
        TrainerCommand::Watch { run_id } => {
            let mut progress = Progress::new(screen_style());
            let (mut output, closed) = OutputWatch::new();
            let mut observers: [&mut dyn Observer; 2] = [&mut progress, &mut output];
            tokio::select! {
                ended = watch(&trainer, &run_id, &mut observers) => report_end(&ended?),
                Ok(()) = closed => Err(OutputError::closed_pipe().into()),
            }
        }
        TrainerCommand::Resume { run_id } => Ok(show(&trainer.resume(&run_id).await?)?),
        TrainerCommand::Cancel { run_id } => Ok(show(&trainer.cancel(&run_id).await?)?),
    }
}

/// An observer that notices when the reader of standard output has gone.
struct OutputWatch(Option<oneshot::Sender<()>>);

impl OutputWatch {
    /// The receiver resolves when the reader has gone.
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, closed) = oneshot::channel();
        (Self(Some(sender)), closed)
    }
}

impl Observer for OutputWatch {
    /// Is called after the text about the event was written.
    fn observe(&mut self, _: &Event) {
        if Narration.is_cut_off()
            && let Some(closed) = self.0.take()
        {
            // An error means that the watch has ended.
            let _ = closed.send(());
        }
    }
}

/// Returns an error unless the run succeeded.
pub(crate) fn succeeded(run: &Run) -> Result<(), CliError> {
    if run.withheld {
        return Err(CliError::Withheld {
            id: run.run_id.clone(),
            reason: run.reason.clone(),
        });
    }
    let state = match run.state() {
        RunState::Succeeded => return Ok(()),
        RunState::Cancelled => "was cancelled",
        RunState::Failed | RunState::Queued | RunState::Running | RunState::Unspecified => "failed",
    };
    Err(CliError::RunEnded {
        id: run.run_id.clone(),
        state,
        reason: run.reason.clone(),
        folder: run.folder.clone(),
    })
}

fn report_end(run: &Run) -> Result<(), CliError> {
    succeeded(run)?;
    writeln!(
        Narration,
        "run {} succeeded; its folder: {}",
        run.run_id, run.folder
    );
    Ok(())
}

fn show(run: &Run) -> Result<(), OutputError> {
    writeln!(Results, "run:    {}", run.run_id)?;
    writeln!(Results, "name:   {}", run.name)?;
    writeln!(Results, "state:  {}", state_text(run))?;
    writeln!(Results, "folder: {}", run.folder)?;
    if !run.reason.is_empty() {
        writeln!(Results, "reason: {}", run.reason)?;
    }
    Ok(())
}

fn state_text(run: &Run) -> &'static str {
    match run.state() {
        RunState::Unspecified => "unknown",
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Failed if run.withheld => "withheld",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}
