//! The run's figures as event files for TensorBoard. They repeat what is in `metrics.jsonl` and decide nothing: a run
//! whose files cannot be written continues without them.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use networks::Weights;
use tensorboard::{EventLog, event::Value, histogram};
use tracing::warn;

use crate::events::{EventSink, RunEvent, TermLoss};

/// The event files of one run.
#[derive(Debug)]
pub(super) struct TensorBoard(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` after a write has failed.
    log: Option<EventLog>,
    steps: Steps,
    /// Step of the newest histograms.
    weights_at: Option<u64>,
}

/// The figures of an event, by the names of their curves. TensorBoard shows curves whose names have the same first
/// part together; only figures that are known are written.
fn figures(event: &RunEvent) -> Vec<(&'static str, Option<f64>)> {
    match event {
        RunEvent::StepProgress(progress) => vec![
            ("loss/train", Some(progress.loss)),
            ("accuracy/train", progress.train_accuracy),
            ("learning_rate", Some(progress.learning_rate)),
            ("gradient_norm", progress.gradient_norm),
            ("samples_per_second", Some(progress.samples_per_second)),
            ("wait_share/teacher", Some(progress.teacher_wait_share)),
            ("wait_share/data", Some(progress.data_wait_share)),
        ],
        RunEvent::EpochFinished(finished) => vec![
            ("loss/train_epoch", Some(finished.train_loss)),
            ("accuracy/train_epoch", finished.train_accuracy),
            ("accuracy/validation", finished.validation_accuracy),
            ("epoch_seconds", Some(finished.seconds)),
        ],
        RunEvent::PhaseStarted(_) | RunEvent::Notice { .. } => Vec::new(),
    }
}

impl TensorBoard {
    /// Opens the files in `folder`. `past` are the events of an interrupted run up to its checkpoint: their figures
    /// stay, or are written again if they are missing; later ones are removed.
    pub(super) fn open(folder: &Path, past: &[RunEvent]) -> Self {
        let mut steps = Steps::default();
        let past: Vec<_> = past
            .iter()
            .filter_map(|event| Some((steps.of(event)?, event)))
            .collect();
        let keep = past.last().map(|(step, _)| *step);
        let opened = EventLog::open(folder, keep).and_then(|(mut log, last)| {
            let missing = past.iter().filter(|(step, _)| Some(*step) > last);
            for (step, event) in missing {
                log.append(*step, values(event))?;
            }
            Ok(log)
        });
        Self(Mutex::new(State {
            log: opened.map_err(|error| stop(&error)).ok(),
            steps,
            weights_at: None,
        }))
    }

    /// A sink that writes the figures of each event and passes it on to `next`.
    pub(super) fn sink(self: &Arc<Self>, next: &EventSink) -> EventSink {
        let (files, next) = (Arc::clone(self), next.clone());
        EventSink::new(move |event| {
            files.update(|state| {
                if let Some(step) = state.steps.of(&event) {
                    state.append(step, values(&event));
                }
            });
            next.send(event);
        })
    }

    /// Writes histograms of all weights, once per step.
    pub(super) fn weights(&self, step: u64, weights: &Weights) {
        self.update(|state| {
            if state.log.is_none() || state.weights_at == Some(step) {
                return;
            }
            let histogram = |(name, tensor): (&str, &networks::WeightTensor)| {
                let histogram = histogram(&tensor.data)?;
                Some(Value::histogram(format!("weights/{name}"), histogram))
            };
            state.append(step, weights.iter().filter_map(histogram).collect());
            state.weights_at = Some(step);
        });
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        // A panic leaves at most one record out.
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn append(&mut self, step: u64, values: Vec<Value>) {
        let Some(log) = &mut self.log else { return };
        if let Err(error) = log.append(step, values) {
            stop(&error);
            self.log = None;
        }
    }
}

fn values(event: &RunEvent) -> Vec<Value> {
    let known = figures(event)
        .into_iter()
        .filter_map(|(name, figure)| Some(Value::scalar(name, figure?)));
    known.chain(terms(event)).collect()
}

/// The terms of the loss, in order, if there are several: `loss/train/1_kd`, `loss/train/2_cross_entropy`.
fn terms(event: &RunEvent) -> impl Iterator<Item = Value> {
    let (curve, terms) = match event {
        RunEvent::StepProgress(progress) => ("loss/train", &*progress.terms),
        RunEvent::EpochFinished(finished) => ("loss/train_epoch", &*finished.terms),
        RunEvent::PhaseStarted(_) | RunEvent::Notice { .. } => ("", &[][..]),
    };
    let numbered = (1..).zip(terms);
    numbered.map(move |(number, TermLoss { kind, loss })| {
        Value::scalar(format!("{curve}/{number}_{kind}"), *loss)
    })
}

fn stop(error: &io::Error) {
    warn!(%error, "cannot write for TensorBoard; the run continues without it");
}

/// Counts the steps of all phases.
#[derive(Debug, Default)]
struct Steps {
    /// Steps of the phases before.
    before: u64,
    /// Of the current phase.
    per_epoch: u64,
    epochs: u64,
}

impl Steps {
    /// The steps of the run at the time of `event`, if it has figures. Must be called with every event, in order.
    fn of(&mut self, event: &RunEvent) -> Option<u64> {
        match event {
            RunEvent::PhaseStarted(started) => {
                self.before += self.epochs * self.per_epoch;
                self.per_epoch = started.steps_per_epoch;
                self.epochs = started.epochs as u64;
                None
            }
            RunEvent::StepProgress(progress) => {
                let epochs = (progress.epoch as u64).saturating_sub(1);
                Some(self.before + epochs * self.per_epoch + progress.step)
            }
            RunEvent::EpochFinished(finished) => {
                Some(self.before + finished.epoch as u64 * self.per_epoch)
            }
            RunEvent::Notice { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::PhaseKind,
        events::{EpochFinished, PhaseStarted, StepProgress},
    };

    fn started(phase: usize) -> RunEvent {
        RunEvent::PhaseStarted(PhaseStarted {
            phase,
            kind: PhaseKind::Supervised,
            epochs: 2,
            steps_per_epoch: 10,
        })
    }

    fn progress(epoch: usize, step: u64) -> RunEvent {
        RunEvent::StepProgress(StepProgress {
            phase: 0,
            epoch,
            step,
            loss: 0.5,
            terms: Vec::new(),
            train_accuracy: None,
            learning_rate: 0.1,
            gradient_norm: None,
            samples_per_second: 100.0,
            teacher_wait_share: 0.0,
            data_wait_share: 0.25,
            teachers: 0,
        })
    }

    fn finished(epoch: usize) -> RunEvent {
        RunEvent::EpochFinished(EpochFinished {
            phase: 0,
            epoch,
            train_loss: 0.25,
            terms: Vec::new(),
            train_accuracy: Some(0.5),
            validation_accuracy: Some(0.75),
            learning_rate: 0.1,
            seconds: 2.0,
        })
    }

    #[test]
    fn steps_are_counted_over_all_phases() {
        let notice = RunEvent::Notice { text: "n".into() };
        let events = [
            (started(0), None),
            (progress(1, 5), Some(5)),
            (finished(1), Some(10)),
            (notice, None),
            (progress(2, 5), Some(15)),
            (finished(2), Some(20)),
            (started(1), None),
            (progress(1, 10), Some(30)),
            (finished(2), Some(40)),
        ];
        let mut steps = Steps::default();
        for (event, expected) in events {
            assert_eq!(steps.of(&event), expected, "{event:?}");
        }
    }

    #[test]
    fn figures_that_are_unknown_are_left_out() {
        let names = |event| {
            let values = values(&event).into_iter();
            values.map(|value| value.tag).collect::<Vec<_>>()
        };
        assert_eq!(
            names(progress(1, 5)),
            [
                "loss/train",
                "learning_rate",
                "samples_per_second",
                "wait_share/teacher",
                "wait_share/data"
            ]
        );
        assert_eq!(
            names(finished(1)),
            [
                "loss/train_epoch",
                "accuracy/train_epoch",
                "accuracy/validation",
                "epoch_seconds"
            ]
        );
    }

    #[test]
    fn each_term_of_a_loss_has_a_curve() {
        let RunEvent::StepProgress(mut progress) = progress(1, 5) else {
            unreachable!("it is progress")
        };
        progress.terms = [("kd", 0.75), ("cross_entropy", 0.25)]
            .map(|(kind, loss)| TermLoss {
                kind: kind.to_owned(),
                loss,
            })
            .into();
        let values = values(&RunEvent::StepProgress(progress));
        for (tag, loss) in [
            ("loss/train/1_kd", 0.75),
            ("loss/train/2_cross_entropy", 0.25),
        ] {
            assert!(values.contains(&Value::scalar(tag, loss)), "{values:?}");
        }
    }

    /// The last step that the log in `folder` has; opening it again keeps all.
    fn last(folder: &Path) -> Option<u64> {
        EventLog::open(folder, Some(u64::MAX - 1)).unwrap().1
    }

    #[test]
    fn a_resumed_run_removes_later_figures_and_writes_missing_ones_again() {
        let folder = tempfile::tempdir().unwrap();
        let events = [started(0), progress(1, 5), finished(1), progress(2, 5)];
        let first = Arc::new(TensorBoard::open(folder.path(), &[]));
        let sink = first.sink(&EventSink::none());
        events.iter().for_each(|event| sink.send(event.clone()));
        assert_eq!(last(folder.path()), Some(15));
        TensorBoard::open(folder.path(), &events[..3]);
        assert_eq!(last(folder.path()), Some(10));

        let lost = tempfile::tempdir().unwrap();
        TensorBoard::open(lost.path(), &events);
        assert_eq!(last(lost.path()), Some(15));
    }

    #[test]
    fn a_run_goes_on_if_nothing_can_be_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files = Arc::new(TensorBoard::open(file.path(), &[]));
        let sink = files.sink(&EventSink::none());
        sink.send(started(0));
        sink.send(progress(1, 5));
    }
}
