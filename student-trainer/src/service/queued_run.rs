//! A run in the queue: its state and events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::os_text;
use futures::Stream;
use proto::runs::v1::{
    EpochFinished, Notice, PhaseStarted, Run, RunState, StepProgress, TermLoss,
    watch_run_response::Event,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    event_log::{EventLog, is_final},
    run_id::RunId,
    store::QueueStore,
    stored_run::{StoredRun, StoredState},
};
use crate::{
    events::{self, RunEvent},
    metrics,
    run::RunOutput,
};

/// A run in the queue: its identity, state and events.
pub(super) struct QueuedRun {
    id: RunId,
    output: RunOutput,
    status: Mutex<Status>,
    log: Arc<EventLog>,
    cancel: CancellationToken,
    store: Arc<QueueStore>,
}

struct Status {
    /// The run's record, which the queue writes to the run's file.
    stored: StoredRun,
    stop: Option<StopCause>,
}

/// Why a run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopCause {
    /// A client cancelled it.
    Request,
    /// The service stops; the run resumes when it is restarted.
    Shutdown,
}

impl QueuedRun {
    /// A run in `store`, with its events so far.
    pub(super) fn new(
        stored: StoredRun,
        output: RunOutput,
        past: Vec<RunEvent>,
        store: Arc<QueueStore>,
    ) -> Self {
        let run = Self {
            id: RunId::new(&stored.run_id),
            output,
            status: Mutex::new(Status { stored, stop: None }),
            log: Arc::new(EventLog::new()),
            cancel: CancellationToken::new(),
            store,
        };
        // A run that had ended was counted when it ended.
        if !run.has_ended() {
            metrics::run_changed(None, run.stored().state);
        }
        past.into_iter().for_each(|event| run.record(event));
        run.log.record(Event::StateChanged(run.to_proto()));
        run
    }

    pub(super) fn id(&self) -> &RunId {
        &self.id
    }

    pub(super) fn output(&self) -> &RunOutput {
        &self.output
    }

    /// The run's record.
    pub(super) fn stored(&self) -> StoredRun {
        self.lock().stored.clone()
    }

    pub(super) fn state(&self) -> RunState {
        self.lock().stored.state.into()
    }

    pub(super) fn has_ended(&self) -> bool {
        is_final(self.state())
    }

    pub(super) fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// All events so far, then new ones, until the run or the service ends.
    pub(super) fn follow(&self) -> impl Stream<Item = Event> + Send + 'static + use<> {
        Arc::clone(&self.log).follow()
    }

    /// Ends the streams of all watchers.
    pub(super) fn close(&self) {
        self.log.close();
    }

    pub(super) fn record(&self, event: RunEvent) {
        self.log.record(to_proto(event));
    }

    pub(super) fn begin(&self) {
        self.change(StoredState::Running, String::new());
    }

    /// Asks a running run to stop. The first cause counts.
    pub(super) fn stop(&self, cause: StopCause) {
        let mut status = self.lock();
        if status.stop.is_none() && !is_final(status.stored.state.into()) {
            status.stop = Some(cause);
            self.cancel.cancel();
        }
    }

    /// Ends a run that was never started.
    pub(super) fn end_unstarted(&self, reason: &str) {
        self.cancel.cancel();
        if let RunOutput::Folder(folder) = &self.output {
            // This only removes an empty folder, so it keeps the files of a resumed run.
            let _ = std::fs::remove_dir(folder);
        }
        self.end(StoredState::Cancelled, reason.to_owned());
    }

    /// Notes that a run stopped on request.
    pub(super) fn end_stopped(&self) {
        let cause = self.lock().stop;
        match cause {
            Some(StopCause::Shutdown) => {
                let reason = "the trainer was shut down; the run resumes when the trainer restarts";
                self.change(StoredState::Queued, reason.to_owned());
            }
            Some(StopCause::Request) | None => {
                self.end(StoredState::Cancelled, "cancelled on request".to_owned());
            }
        }
    }

    pub(super) fn end(&self, state: StoredState, reason: String) {
        self.change(state, reason);
    }

    pub(super) fn to_proto(&self) -> Run {
        self.describe(&self.lock())
    }

    fn change(&self, state: StoredState, reason: String) {
        let mut status = self.lock();
        metrics::run_changed(Some(status.stored.state), state);
        status.stored.state = state;
        status.stored.reason = reason;
        if let Err(error) = self.store.write(&status.stored) {
            // A restarted service would execute the run again, and resume it or find it finished.
            warn!(run = %self.id, %error, "cannot store the state of a run");
        }
        // Under the lock, so that the log has the states in order.
        self.log.record(Event::StateChanged(self.describe(&status)));
    }

    fn describe(&self, status: &Status) -> Run {
        Run {
            run_id: self.id.to_string(),
            name: status.stored.name.clone(),
            state: RunState::from(status.stored.state).into(),
            folder: match &self.output {
                RunOutput::Folder(folder) => os_text::shown(folder.as_os_str()).into_owned(),
                RunOutput::Bucket(bucket) => bucket.url(),
            },
            reason: status.stored.reason.clone(),
            withheld: status.stored.state == StoredState::Withheld,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // Every change is a plain assignment, which a panic cannot interrupt.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
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
            train_accuracy: progress.train_accuracy.unwrap_or_default(),
            unlabelled: progress.train_accuracy.is_none(),
            data_wait_share: progress.data_wait_share,
            terms: term_losses(progress.terms),
            gradient_norm: progress.gradient_norm,
        }),
        RunEvent::EpochFinished(finished) => Event::EpochFinished(EpochFinished {
            phase: narrow(finished.phase),
            epoch: narrow(finished.epoch),
            train_loss: finished.train_loss,
            train_accuracy: finished.train_accuracy.unwrap_or_default(),
            unlabelled: finished.train_accuracy.is_none(),
            validation_accuracy: finished.validation_accuracy,
            learning_rate: finished.learning_rate,
            seconds: finished.seconds,
            terms: term_losses(finished.terms),
        }),
        RunEvent::Notice { text } => Event::Notice(Notice { text }),
    }
}

fn term_losses(terms: Vec<events::TermLoss>) -> Vec<TermLoss> {
    let terms = terms.into_iter();
    terms
        .map(|events::TermLoss { kind, loss }| TermLoss { kind, loss })
        .collect()
}

/// Saturates a counter to the 32 bits of the contract.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
