//! Events that a run sends while it is executed. The fields are those of `retort.runs.v1`.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::config::PhaseKind;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// A phase begins.
    PhaseStarted(PhaseStarted),
    /// Progress of some steps.
    StepProgress(StepProgress),
    /// An epoch ended.
    EpochFinished(EpochFinished),
    /// A message for the user.
    Notice {
        /// One sentence.
        text: String,
    },
}

/// A phase begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseStarted {
    /// 0-based.
    pub phase: usize,
    /// What the phase does.
    pub kind: PhaseKind,
    /// Epochs planned.
    pub epochs: usize,
    /// Optimizer steps in each.
    pub steps_per_epoch: u64,
}

/// Progress of some steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProgress {
    /// 0-based.
    pub phase: usize,
    /// 1-based.
    pub epoch: usize,
    /// Steps done in this epoch.
    pub step: u64,
    /// Mean over the steps since the last report.
    pub loss: f64,
    /// The weighted terms that add up to the loss; empty if there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TermLoss>,
    /// Accuracy over the same steps, on the augmented training samples that have a label, 0 to 1; absent if none
    /// has one.
    pub train_accuracy: Option<f64>,
    /// Learning rate of the last of these steps.
    pub learning_rate: f64,
    /// Norm of the gradients of the last of these steps, all together and before they are clipped. Absent in events
    /// of older builds for phases that do not clip gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Training speed since the last report.
    pub samples_per_second: f64,
    /// Share of that time in which training waited for soft targets, 0 to 1.
    pub teacher_wait_share: f64,
    /// Share of that time in which training waited for the loader, which reads, decodes and augments; 0 to 1. Absent
    /// in events of older builds.
    #[serde(default)]
    pub data_wait_share: f64,
    /// Teachers connected; 0 in a phase without soft targets.
    pub teachers: usize,
}

/// An epoch ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochFinished {
    /// 0-based.
    pub phase: usize,
    /// 1-based.
    pub epoch: usize,
    /// Mean over the epoch's samples.
    pub train_loss: f64,
    /// The weighted terms that add up to the loss; empty if there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TermLoss>,
    /// Accuracy on the augmented training samples that have a label, 0 to 1; absent if none has one.
    pub train_accuracy: Option<f64>,
    /// Accuracy on the validation split, of the moving average if the phase has one; absent without a validation
    /// split.
    pub validation_accuracy: Option<f64>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Wall-clock time, validation included.
    pub seconds: f64,
}

/// One term of a loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TermLoss {
    /// Kind of the term in the configuration.
    pub kind: String,
    /// Its mean, times its weight.
    pub loss: f64,
}

/// Receives a run's events; a cheap handle. It is called on the training thread and on the pool's tasks, so
/// it must not block.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(RunEvent) + Send + Sync>);

impl EventSink {
    /// Calls `receive` with every event.
    pub fn new(receive: impl Fn(RunEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Drops all events.
    pub fn none() -> Self {
        Self::new(drop)
    }

    /// Passes one event on.
    pub fn send(&self, event: RunEvent) {
        (self.0)(event);
    }

    /// A handle that can send notices only.
    pub fn notices(&self) -> NoticeSender {
        NoticeSender(self.clone())
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}

/// Sends messages for the user into a run's events.
#[derive(Debug, Clone)]
pub struct NoticeSender(EventSink);

impl NoticeSender {
    /// Sends one sentence.
    pub fn notice(&self, text: impl Into<String>) {
        self.0.send(RunEvent::Notice { text: text.into() });
    }

    /// A handle whose messages begin with `subject` and a colon.
    pub fn about(&self, subject: &str) -> Self {
        let (Self(sink), subject) = (self.clone(), subject.to_owned());
        Self(EventSink::new(move |event| {
            sink.send(match event {
                RunEvent::Notice { text } => RunEvent::Notice {
                    text: format!("{subject}: {text}"),
                },
                event => event,
            });
        }))
    }

    /// A handle that sends each sentence once.
    pub fn once_each(&self) -> Self {
        let (Self(sink), sent) = (self.clone(), Mutex::new(BTreeSet::new()));
        Self(EventSink::new(move |event| {
            let is_new = match &event {
                // A panic elsewhere does not damage the set.
                RunEvent::Notice { text } => sent
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(text.clone()),
                _ => true,
            };
            if is_new {
                sink.send(event);
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_a_subject_name_it() {
        let texts = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&texts);
        let sink = EventSink::new(move |event| match event {
            RunEvent::Notice { text } => received.lock().unwrap().push(text),
            other => panic!("{other:?}"),
        });
        let notices = sink.notices();
        notices.about("teacher big").notice("left");
        notices.notice("done");
        assert_eq!(*texts.lock().unwrap(), ["teacher big: left", "done"]);
    }
}
