//! The queue of runs and the one thread that does them.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use proto::runs::v1::Run;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    ServeError,
    error::ServiceError,
    event_log::is_final,
    folder,
    record::{RunId, RunRecord, StopCause},
    store::{QueueStore, StoredRun, StoredState},
};
use crate::{
    config::QueueConfig,
    events::{EventSink, RunEvent},
    run,
};

/// Does one run, on the queue's thread.
pub(super) type Work = Box<dyn Fn(Assignment<'_>) -> WorkOutcome + Send>;

/// A run to do.
pub(super) struct Assignment<'r> {
    /// As it was submitted.
    pub(super) config_toml: &'r str,
    /// A folder of its own: empty, or with what an interrupted service left of the run.
    pub(super) folder: &'r Path,
    pub(super) events: EventSink,
    pub(super) cancel: CancellationToken,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WorkOutcome {
    Succeeded,
    /// As it was asked to; it can go on.
    Stopped,
    /// Why, for people.
    Failed(String),
}

/// Runs in the order submitted, done one at a time, and written down: a service that is started
/// again goes on with them.
pub(super) struct RunQueue {
    shared: Arc<Shared>,
    /// Cancelled when the thread has ended.
    ended: CancellationToken,
    runs_folder: PathBuf,
    limits: QueueConfig,
}

struct Shared {
    store: Arc<QueueStore>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Every run that is remembered, oldest first.
    runs: Vec<Arc<RunRecord>>,
    waiting: VecDeque<Arc<RunRecord>>,
    next_number: u64,
    closed: bool,
}

impl RunQueue {
    /// Takes up the queue below `runs_folder` and starts the thread that does its runs.
    ///
    /// # Errors
    /// When the queue cannot be read, or another service has it, or there is no thread.
    pub(super) fn start(
        runs_folder: PathBuf,
        limits: QueueConfig,
        work: Work,
    ) -> Result<Self, ServeError> {
        let (store, stored) = QueueStore::open(&runs_folder)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            store: Arc::new(store),
        });
        for run in stored {
            shared.restore(&runs_folder, run)?;
        }
        let ended = CancellationToken::new();
        let (thread, at_end) = (Arc::clone(&shared), ended.clone().drop_guard());
        thread::Builder::new()
            .name("runs".to_owned())
            .spawn(move || {
                thread.do_runs(&work);
                // First the queue's files, which another service may then take up.
                drop(thread);
                drop(at_end);
            })
            .map_err(ServeError::Thread)?;
        Ok(Self {
            shared,
            ended,
            runs_folder,
            limits,
        })
    }

    /// Makes a folder `name` (`name-2`, `name-3`, … where that is taken) and queues the run. It is
    /// on disk when this returns.
    pub(super) fn submit(
        &self,
        name: &str,
        config_toml: String,
    ) -> Result<Arc<RunRecord>, ServiceError> {
        folder::check_name(name)?;
        let mut state = self.shared.lock();
        if state.closed {
            return Err(ServiceError::ShuttingDown);
        }
        state.check_room(&self.limits)?;
        let (id, folder) = folder::allocate(&self.runs_folder, name)?;
        let stored = StoredRun::queued(state.next_number, &id, name, config_toml);
        if let Err(error) = self.shared.store.write(&stored) {
            // Just made, and empty.
            let _ = std::fs::remove_dir(&folder);
            return Err(ServiceError::Folder { folder, error });
        }
        let record = self.shared.record(stored, folder, Vec::new());
        state.next_number += 1;
        state.runs.push(Arc::clone(&record));
        self.shared
            .forget_ended(&mut state, self.limits.remembered_runs);
        state.waiting.push_back(Arc::clone(&record));
        self.shared.changed.notify_one();
        Ok(record)
    }

    pub(super) fn get(&self, id: &RunId) -> Result<Arc<RunRecord>, ServiceError> {
        self.shared.lock().find(id)
    }

    pub(super) fn list(&self) -> Vec<Arc<RunRecord>> {
        self.shared.lock().runs.clone()
    }

    /// Ends a waiting run at once, asks a running one to stop.
    pub(super) fn cancel(&self, id: &RunId) -> Result<Arc<RunRecord>, ServiceError> {
        let record = self.get(id)?;
        let mut state = self.shared.lock();
        let waiting = state.waiting.iter().position(|run| run.id() == id);
        if let Some(position) = waiting {
            state.waiting.remove(position);
            record.end_unstarted("cancelled before it began");
        } else if record.has_ended() {
            return Err(ServiceError::AlreadyEnded {
                id: id.to_string(),
                state: record.state(),
            });
        } else {
            record.stop(StopCause::Request);
        }
        Ok(record)
    }

    /// Queues a run again that failed or was cancelled: it goes on from its last checkpoint.
    pub(super) fn resume(&self, id: &RunId) -> Result<Arc<RunRecord>, ServiceError> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(ServiceError::ShuttingDown);
        }
        let ended = state.find(id)?;
        let mut stored = ended.stored();
        if !matches!(stored.state, StoredState::Failed | StoredState::Cancelled) {
            return Err(ServiceError::NothingToResume {
                id: id.to_string(),
                state: ended.state(),
            });
        }
        state.check_room(&self.limits)?;
        let folder = ended.folder().to_owned();
        stored.state = StoredState::Queued;
        stored.reason = "resumed on request".to_owned();
        let written = self.shared.store.write(&stored);
        written.map_err(|error| ServiceError::Folder {
            folder: folder.clone(),
            error,
        })?;
        let record = self.shared.record(stored, folder, Vec::new());
        state.runs.retain(|run| run.id() != id);
        state.runs.push(Arc::clone(&record));
        state.waiting.push_back(Arc::clone(&record));
        self.shared.changed.notify_one();
        Ok(record)
    }

    /// Takes no more runs and asks the running one to stop where it is. It and the waiting ones stay
    /// in the queue on disk.
    pub(super) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        for record in &state.runs {
            match waiting.iter().any(|run| run.id() == record.id()) {
                true => record.close(),
                false => record.stop(StopCause::Shutdown),
            }
        }
        self.shared.changed.notify_all();
    }

    /// Waits until the thread has ended, which it does some time after [`close`](Self::close).
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl State {
    fn find(&self, id: &RunId) -> Result<Arc<RunRecord>, ServiceError> {
        let found = self.runs.iter().find(|run| run.id() == id);
        found.cloned().ok_or_else(|| ServiceError::UnknownRun {
            id: id.to_string(),
            known: self.runs.iter().map(|run| run.id().to_string()).collect(),
        })
    }

    fn check_room(&self, limits: &QueueConfig) -> Result<(), ServiceError> {
        let waiting = self.waiting.len();
        match waiting < limits.waiting_runs {
            true => Ok(()),
            false => Err(ServiceError::QueueFull { waiting }),
        }
    }
}

impl Shared {
    /// Takes up a run that an earlier service had.
    fn restore(&self, runs_folder: &Path, mut run: StoredRun) -> Result<(), ServeError> {
        let folder = runs_folder.join(&run.run_id);
        if run.state == StoredState::Running {
            // It may have ended, and the service before it could say so.
            run.state = match run::is_finished(&folder) {
                true => StoredState::Succeeded,
                false => StoredState::Queued,
            };
            run.reason = match run.state {
                StoredState::Queued => "the trainer was interrupted; the run goes on".to_owned(),
                _ => String::new(),
            };
            self.store
                .write(&run)
                .map_err(|error| ServeError::RunsFolder {
                    path: folder.clone(),
                    problem: error.to_string(),
                })?;
        }
        let past = match is_final(run.state.into()) {
            true => past_events(&folder),
            // They come again when it goes on, without those that it does again.
            false => Vec::new(),
        };
        let number = run.number;
        let record = self.record(run, folder, past);
        let mut state = self.lock();
        state.next_number = number + 1;
        state.runs.push(Arc::clone(&record));
        if !record.has_ended() {
            state.waiting.push_back(record);
        }
        Ok(())
    }

    fn record(&self, run: StoredRun, folder: PathBuf, past: Vec<RunEvent>) -> Arc<RunRecord> {
        Arc::new(RunRecord::new(run, folder, past, Arc::clone(&self.store)))
    }

    fn do_runs(&self, work: &Work) {
        while let Some(record) = self.next() {
            info!(run = %record.id(), folder = %record.folder().display(), "run begins");
            let events = {
                let record = Arc::clone(&record);
                EventSink::new(move |event| {
                    if let RunEvent::Notice { text } = &event {
                        info!(run = %record.id(), "{text}");
                    }
                    record.record(event);
                })
            };
            let config_toml = record.config_toml();
            let assignment = Assignment {
                config_toml: &config_toml,
                folder: record.folder(),
                events,
                cancel: record.cancellation(),
            };
            // A bug in one run must not end the service: nothing of it is used afterwards.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(assignment)));
            match outcome {
                Ok(WorkOutcome::Succeeded) => record.end(StoredState::Succeeded, String::new()),
                Ok(WorkOutcome::Stopped) => record.end_stopped(),
                Ok(WorkOutcome::Failed(reason)) => record.end(StoredState::Failed, reason),
                Err(panic) => {
                    let reason = format!("internal error: {}", text(&*panic));
                    record.end(StoredState::Failed, reason);
                }
            }
            record.close();
            let Run { run_id, reason, .. } = record.to_proto();
            info!(
                run = run_id,
                state = record.state().as_str_name(),
                reason,
                "run ended"
            );
        }
    }

    /// Waits for the next run and marks it as running; `None` once the queue is closed.
    fn next(&self) -> Option<Arc<RunRecord>> {
        let mut state = self.lock();
        loop {
            if let Some(record) = state.waiting.pop_front() {
                record.begin();
                return Some(record);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn forget_ended(&self, state: &mut State, kept: usize) {
        let ended = state.runs.iter().filter(|run| run.has_ended()).count();
        let mut surplus = ended.saturating_sub(kept);
        state.runs.retain(|run| {
            let forget = surplus > 0 && run.has_ended();
            if forget {
                surplus -= 1;
                if let Err(error) = self.store.remove(run.id()) {
                    warn!(run = %run.id(), %error, "cannot forget an ended run");
                }
            }
            !forget
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic half-way through a change runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run did before the service was started; nothing where its folder is gone.
fn past_events(folder: &Path) -> Vec<RunEvent> {
    run::past_events(folder).unwrap_or_else(|error| {
        warn!(%error, "what this run did cannot be told");
        Vec::new()
    })
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests;
