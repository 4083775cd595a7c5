//! Submits a run and waits for its end.

use std::time::Instant;

use super::{Progress, RunClient, RunHistory, screen_style, succeeded, watch};
use crate::{CliError, run_config::RunConfigText};

/// Submits a run and shows its progress; returns its history and its duration in seconds.
pub(crate) async fn submit_and_watch(
    trainer: &RunClient,
    name: &str,
    config: &RunConfigText,
) -> Result<(RunHistory, f64), CliError> {
    let begin = Instant::now();
    let run = trainer.submit(name, config).await?;
    let mut history = RunHistory::default();
    let mut progress = Progress::new(screen_style());
    let ended = watch(trainer, &run.run_id, &mut [&mut history, &mut progress]).await?;
    succeeded(&ended)?;
    Ok((history, begin.elapsed().as_secs_f64()))
}
