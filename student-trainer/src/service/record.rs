//! One run as the service knows it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use proto::runs::v1::{
    EpochFinished, Notice, PhaseStarted, Run, RunState, StepProgress, watch_run_response::Event,
};
use tokio_util::sync::CancellationToken;

use super::event_log::{EventLog, is_final};
use crate::{events::RunEvent, metrics};

/// Names a run: the name of its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunId(String);

/// Identity, state and events of one run.
pub(super) struct RunRecord {
    id: RunId,
    name: String,
    folder: PathBuf,
    status: Mutex<Status>,
    log: Arc<EventLog>,
    cancel: CancellationToken,
}

struct Status {
    state: RunState,
    reason: String,
}

impl RunRecord {
    /// A queued run.
    pub(super) fn new(id: RunId, name: String, folder: PathBuf) -> Self {
        let record = Self {
            id,
            name,
            folder,
            status: Mutex::new(Status {
                state: RunState::Unspecified,
                reason: String::new(),
            }),
            log: Arc::new(EventLog::new()),
            cancel: CancellationToken::new(),
        };
        record.change(RunState::Queued, String::new());
        record
    }

    pub(super) fn id(&self) -> &RunId {
        &self.id
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn state(&self) -> RunState {
        self.lock().state
    }

    pub(super) fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Everything so far, then what comes, until the run has ended.
    pub(super) fn follow(&self) -> impl Stream<Item = Event> + Send + 'static + use<> {
        Arc::clone(&self.log).follow()
    }

    pub(super) fn record(&self, event: RunEvent) {
        self.log.record(to_proto(event));
    }

    pub(super) fn begin(&self) {
        self.change(RunState::Running, String::new());
    }

    /// Asks a running run to stop; the first reason given is the one that is told.
    pub(super) fn stop(&self, reason: &str) {
        let mut status = self.lock();
        if !is_final(status.state) && !self.cancel.is_cancelled() {
            reason.clone_into(&mut status.reason);
            self.cancel.cancel();
        }
    }

    /// Ends a run that never began.
    pub(super) fn end_unstarted(&self, reason: &str) {
        self.cancel.cancel();
        // Only an empty folder: the run wrote nothing. Left in place where that is not so.
        let _ = std::fs::remove_dir(&self.folder);
        self.end(RunState::Cancelled, reason.to_owned());
    }

    /// Ends a run that did not do all it should: cancelled where that was asked, failed otherwise.
    pub(super) fn end_early(&self, error: &str) {
        match self.cancel.is_cancelled() {
            true => {
                let reason = self.lock().reason.clone();
                self.end(RunState::Cancelled, reason);
            }
            false => self.end(RunState::Failed, error.to_owned()),
        }
    }

    pub(super) fn end(&self, state: RunState, reason: String) {
        self.change(state, reason);
    }

    pub(super) fn to_proto(&self) -> Run {
        self.describe(&self.lock())
    }

    fn change(&self, state: RunState, reason: String) {
        let mut status = self.lock();
        metrics::run_changed(status.state, state);
        *status = Status { state, reason };
        // Under the lock, so that the log has the states in the order they were taken.
        self.log.record(Event::StateChanged(self.describe(&status)));
    }

    fn describe(&self, status: &Status) -> Run {
        Run {
            run_id: self.id.to_string(),
            name: self.name.clone(),
            state: status.state.into(),
            folder: self.folder.display().to_string(),
            reason: status.reason.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // Every change is a plain assignment: a panic cannot leave half of it.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunId {
    pub(super) fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn to_proto(event: RunEvent) -> Event {
    match event {
        RunEvent::PhaseStarted(started) => Event::PhaseStarted(PhaseStarted {
            phase: narrow(started.phase),
            kind: started.kind.to_string(),
            epochs: narrow(started.epochs),
            steps_per_epoch: started.steps_per_epoch,
        }),
        RunEvent::StepProgress(progress) => Event::StepProgress(StepProgress {
            phase: narrow(progress.phase),
            epoch: narrow(progress.epoch),
            step: progress.step,
            loss: progress.loss,
            samples_per_second: progress.samples_per_second,
            teacher_wait_share: progress.teacher_wait_share,
            teachers: narrow(progress.teachers),
            learning_rate: progress.learning_rate,
            train_accuracy: progress.train_accuracy,
        }),
        RunEvent::EpochFinished(finished) => Event::EpochFinished(EpochFinished {
            phase: narrow(finished.phase),
            epoch: narrow(finished.epoch),
            train_loss: finished.train_loss,
            train_accuracy: finished.train_accuracy,
            validation_accuracy: finished.validation_accuracy,
            learning_rate: finished.learning_rate,
            seconds: finished.seconds,
        }),
        RunEvent::Notice { text } => Event::Notice(Notice { text }),
    }
}

/// The contract's counters have 32 bits; larger ones stop at the end of the range.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
