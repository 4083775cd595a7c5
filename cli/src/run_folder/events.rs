//! The events in a run's `metrics.jsonl`.

use proto::runs::v1::{EpochFinished, PhaseStarted, StepProgress, watch_run_response::Event};
use serde::Deserialize;

use crate::runs::{Observer, RunHistory};

/// A line of `metrics.jsonl`. The trainer also logs notices, and figures that are not shown.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum LoggedEvent {
    PhaseStarted {
        phase: u32,
        kind: String,
        epochs: u32,
        steps_per_epoch: u64,
    },
    StepProgress {
        phase: u32,
        epoch: u32,
        step: u64,
        loss: f64,
        learning_rate: f64,
    },
    EpochFinished {
        phase: u32,
        epoch: u32,
        train_loss: f64,
        train_accuracy: Option<f64>,
        validation_accuracy: Option<f64>,
        learning_rate: f64,
        seconds: f64,
    },
    #[serde(other)]
    Other,
}

/// The history that `log` tells. Ignores the line that a killed process has not completed.
pub(super) fn history(log: &str) -> RunHistory {
    let mut history = RunHistory::default();
    let logged = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    for event in logged.filter_map(LoggedEvent::into_event) {
        history.observe(&event);
    }
    history
}

impl LoggedEvent {
    /// The same event as the trainer's service sends it.
    fn into_event(self) -> Option<Event> {
        Some(match self {
            Self::PhaseStarted {
                phase,
                kind,
                epochs,
                steps_per_epoch,
            } => Event::PhaseStarted(PhaseStarted {
                phase,
                kind,
                epochs,
                steps_per_epoch,
            }),
            Self::StepProgress {
                phase,
                epoch,
                step,
                loss,
                learning_rate,
            } => Event::StepProgress(StepProgress {
                phase,
                epoch,
                step,
                loss,
                learning_rate,
                ..Default::default()
            }),
            Self::EpochFinished {
                phase,
                epoch,
                train_loss,
                train_accuracy,
                validation_accuracy,
                learning_rate,
                seconds,
            } => Event::EpochFinished(EpochFinished {
                phase,
                epoch,
                train_loss,
                train_accuracy: train_accuracy.unwrap_or_default(),
                unlabelled: train_accuracy.is_none(),
                validation_accuracy,
                learning_rate,
                seconds,
                ..Default::default()
            }),
            Self::Other => return None,
        })
    }
}
