//! `retort sweep`: runs of one configuration with several values and seeds, on a trainer.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use common::{
    os_text,
    output::{Narration, Results},
    shutdown::Signals,
};
use proto::runs::v1::{Run, RunState};
use server::security::client::CredentialArguments;

use crate::{
    CliError,
    client::Remote,
    run_config::RunConfigText,
    runs::{
        DEFAULT_TRAINER, Progress, RunClient, RunHistory, TRAINER_VARIABLE, run_name, screen_style,
        watch,
    },
};
use plan::{Over, PlannedRun};
use results::RunFigures;

mod plan;
mod results;

const EXAMPLES: &str = "\
Examples:
  retort sweep configs/run.toml --over loss.temperature=2,4 --seeds 3
  retort sweep configs/run.toml --over 'network.widths=[12, 24],[24, 48]' --over schedule.max_learning_rate=0.1,0.2

The runs wait in the trainer's queue, which continues without this command. The same command continues a sweep that was
stopped: it finds the runs that are there by their names, and resumes those that failed or were cancelled. With
soft_targets.mode = \"record\", the first run records the teacher's soft targets, and the others read the recording.";

/// Run a configuration with several values and seeds, and compare the settings.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SweepArguments {
    /// The runs' configuration, TOML; overrides the trainer's defaults (configs/run.toml).
    config: PathBuf,
    /// Values of one key; may be repeated for every combination. A key below loss, optimizer or schedule stands for it
    /// in every phase that has it.
    #[arg(long = "over", value_name = "KEY.PATH=VALUE,VALUE…", value_parser = Over::parse)]
    overs: Vec<Over>,
    /// Number of runs of each setting, with the seed of the configuration (1 if it has none) and the following ones.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Overrides one key in all runs; may be repeated, as for `retort run`.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    overrides: Vec<OsString>,
    /// First part of the runs' names [default: the file's name].
    #[arg(long)]
    name: Option<String>,
    /// host:port of the trainer.
    #[arg(long, value_parser = os_text::argument(), env = TRAINER_VARIABLE, default_value = DEFAULT_TRAINER)]
    trainer: String,
    #[command(flatten)]
    credentials: CredentialArguments,
}

/// `retort sweep`.
pub(crate) async fn execute(arguments: SweepArguments) -> Result<(), CliError> {
    let mut config = RunConfigText::read(&arguments.config)?;
    for argument in arguments.overrides {
        config.add_override(argument)?;
    }
    let name = match arguments.name {
        Some(name) => name,
        None => run_name(&arguments.config)?,
    };
    let settings = plan::settings(&arguments.overs, &config)?;
    let first_seed = first_seed(&config)?;
    let planned = plan::runs(&name, &config, &settings, first_seed, arguments.seeds)?;
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let remote = Remote::trainer(&arguments.trainer).with(&arguments.credentials)?;
    let trainer = RunClient::connect(remote).await?;
    let figures = tokio::select! {
        figures = finish(&trainer, &planned) => figures?,
        signal = signals.next() => {
            writeln!(Narration, "the trainer continues; the same command shows the rest, `retort runs cancel` stops a run");
            return Err(CliError::Stopped(signal));
        }
    };
    write!(Results, "{}", results::table(&settings, &figures))?;
    match planned.len() - figures.len() {
        0 => Ok(()),
        failed => Err(CliError::RunsFailed {
            failed,
            all: planned.len(),
        }),
    }
}

/// The seed of the configuration.
fn first_seed(config: &RunConfigText) -> Result<u64, CliError> {
    let Some(seed) = config.table().get("seed") else {
        return Ok(1);
    };
    let seed = seed.as_integer().and_then(|seed| u64::try_from(seed).ok());
    seed.ok_or_else(|| CliError::Usage("seed: must be a whole number, 0 or more".to_owned()))
}

/// Queues the runs that are not there yet, and waits for all. Returns the figures of those that succeeded.
async fn finish(
    trainer: &RunClient,
    planned: &[PlannedRun],
) -> Result<Vec<(usize, RunFigures)>, CliError> {
    let known = trainer.list().await?;
    let mut queued = Vec::new();
    for run in planned {
        queued.push(queue(trainer, run, &known).await?);
    }
    let mut figures = Vec::new();
    for (number, (run, planned)) in queued.iter().zip(planned).enumerate() {
        let all = queued.len();
        writeln!(Narration, "run {} of {all}: {}", number + 1, run.run_id);
        let mut history = RunHistory::default();
        let mut progress = Progress::new(screen_style());
        let ended = watch(trainer, &run.run_id, &mut [&mut history, &mut progress]).await?;
        match ended.state() {
            RunState::Succeeded => figures.push((planned.setting, RunFigures::of(&history))),
            _ => writeln!(Narration, "run {} ended: {}", ended.run_id, ended.reason),
        }
    }
    Ok(figures)
}

/// The run of an earlier sweep with this configuration, resumed if it had ended early; or else a new one.
async fn queue(trainer: &RunClient, run: &PlannedRun, known: &[Run]) -> Result<Run, CliError> {
    let found = known.iter().rfind(|it| it.name == run.name);
    match found {
        None => trainer.submit(&run.name, &run.config).await,
        Some(found) => match found.state() {
            RunState::Failed | RunState::Cancelled => trainer.resume(&found.run_id).await,
            RunState::Queued | RunState::Running | RunState::Succeeded | RunState::Unspecified => {
                Ok(found.clone())
            }
        },
    }
}
