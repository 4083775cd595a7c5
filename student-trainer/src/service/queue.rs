//! The queue of runs, and the thread that executes them.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use proto::runs::v1::{Run, RunState};
use tokio_util::sync::CancellationToken;
use traces::{Parent, Scope, Span, SpanKind};
use tracing::{info, warn};

use super::{
    error::RequestError,
    event_log::is_final,
    home::{Outline, RunsHome},
    queued_run::{QueuedRun, StopCause},
    run_folders,
    run_id::RunId,
    serve_error::ServeError,
    store::QueueStore,
    stored_run::{StoredRun, StoredState},
};
use crate::{
    config::QueueConfig,
    events::{EventSink, RunEvent},
    run::{self, RunOutput},
};

/// Executes one run, on the queue's thread.
pub(super) type ExecuteRun = Box<dyn Fn(Assignment<'_>) -> RunResult + Send>;

/// A run to execute.
pub(super) struct Assignment<'r> {
    /// The resolved configuration.
    pub(super) config_toml: &'r str,
    /// The run's output: empty, or with the files of an interrupted run.
    pub(super) output: &'r RunOutput,
    pub(super) events: EventSink,
    pub(super) cancel: CancellationToken,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunResult {
    Succeeded,
    /// The run stopped on request and can be resumed.
    Stopped,
    /// The run is complete, and its publish gate withheld its model, for this reason.
    Withheld(String),
    /// The run failed, for this reason.
    Failed(String),
}

/// Runs in the order of submission. They are stored on disk or in a bucket and executed one at a time, so a restarted
/// service continues them.
pub(super) struct RunQueue {
    shared: Arc<Shared>,
    /// Cancelled when the thread has ended.
    ended: CancellationToken,
    home: RunsHome,
    limits: QueueConfig,
}

struct Shared {
    store: Arc<QueueStore>,
    /// Taken for a submission or a resumption as a whole. The state is not locked meanwhile: a bucket may take long to
    /// answer, and other calls do not wait for it.
    submissions: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// All known runs, oldest first.
    runs: Vec<Arc<QueuedRun>>,
    waiting: VecDeque<Arc<QueuedRun>>,
    next_number: u64,
    closed: bool,
}

impl RunQueue {
    /// Reads the queue of `home` and starts the thread that executes its runs. Must not be called on a thread of an
    /// async runtime.
    ///
    /// # Errors
    /// If the queue cannot be read, if another service has it, or if the thread cannot be started.
    pub(super) fn start(
        home: RunsHome,
        limits: QueueConfig,
        execute: ExecuteRun,
    ) -> Result<Self, ServeError> {
        let (store, stored) = home.open_queue()?;
        let shared = Arc::new(Shared {
            submissions: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            store: Arc::new(store),
        });
        for run in stored {
            shared.restore(&home, run)?;
        }
        let ended = CancellationToken::new();
        let (thread, at_end) = (Arc::clone(&shared), ended.clone().drop_guard());
        thread::Builder::new()
            .name("runs".to_owned())
            .spawn(move || {
                thread.execute_runs(&execute);
                thread.finish();
                // Release the queue's lock before the end is visible, so that another service can have it.
                drop(thread);
                drop(at_end);
            })
            .map_err(ServeError::Thread)?;
        Ok(Self {
            shared,
            ended,
            home,
            limits,
        })
    }

    /// Takes the id `name` (or `name-2`, `name-3`, … if there is such a run) and queues the run. The run is on
    /// disk or in the bucket when this returns. It becomes a part of the caller's trace. Must not be called on a thread of
    /// an async runtime.
    pub(super) fn submit(
        &self,
        name: &str,
        config_toml: String,
    ) -> Result<Arc<QueuedRun>, RequestError> {
        run_folders::check_name(name)?;
        let _alone = lock(&self.shared.submissions);
        let (number, known) = {
            let state = self.shared.lock();
            (state.admit(&self.limits)?, state.ids())
        };
        let id = self.home.allocate(name, &known)?;
        let output = self.home.output(&id);
        let stored = StoredRun::queued(number, &id, name, config_toml);
        let stored = stored.in_trace(Scope::current().context());
        if let Err(error) = self.shared.keep(&stored, &output) {
            // The folder, if there is one, is new and empty. The run's file may be there.
            let _ = std::fs::remove_dir(output.folder());
            let _ = self.shared.store.remove(&id);
            return Err(error);
        }
        let record = self.shared.record(stored, output, Vec::new());
        let mut state = self.shared.lock();
        state.next_number = number + 1;
        self.shared.add(&mut state, &record);
        self.shared
            .forget_ended(&mut state, self.limits.remembered_runs);
        Ok(record)
    }

    pub(super) fn get(&self, id: &RunId) -> Result<Arc<QueuedRun>, RequestError> {
        self.shared.lock().find(id)
    }

    pub(super) fn list(&self) -> Vec<Arc<QueuedRun>> {
        self.shared.lock().runs.clone()
    }

    /// Ends a waiting run at once, or asks a running one to stop. Must not be called on a thread of an async runtime.
    pub(super) fn cancel(&self, id: &RunId) -> Result<Arc<QueuedRun>, RequestError> {
        let mut state = self.shared.lock();
        // Under the lock: a resumption puts another record in place of this one.
        let record = state.find(id)?;
        let waiting = state.waiting.iter().position(|run| run.id() == id);
        if let Some(position) = waiting {
            state.waiting.remove(position);
            record.end_unstarted("cancelled before it began");
        } else if record.has_ended() {
            return Err(RequestError::AlreadyEnded {
                id: id.to_string(),
                state: record.state(),
            });
        } else if state.closed {
            // The run stays in the queue: a restarted service executes it.
            return Err(RequestError::ShuttingDown);
        } else {
            record.stop(StopCause::Request);
        }
        Ok(record)
    }

    /// Queues a failed, withheld or cancelled run again, in the trace of the caller; it resumes from its last
    /// checkpoint. Must not be called on a thread of an async runtime.
    pub(super) fn resume(&self, id: &RunId) -> Result<Arc<QueuedRun>, RequestError> {
        let _alone = lock(&self.shared.submissions);
        let ended = self.get(id)?;
        let before = ended.stored();
        if !before.state.can_resume() {
            return Err(RequestError::NothingToResume {
                id: id.to_string(),
                state: ended.state(),
            });
        }
        self.shared.lock().admit(&self.limits)?;
        let mut stored = before.clone().in_trace(Scope::current().context());
        stored.state = StoredState::Queued;
        stored.reason = "resumed on request".to_owned();
        if let Err(error) = self.shared.keep(&stored, ended.output()) {
            let _ = self.shared.store.write(&before);
            return Err(error);
        }
        let record = self
            .shared
            .record(stored, ended.output().clone(), Vec::new());
        let mut state = self.shared.lock();
        state.runs.retain(|run| run.id() != id);
        self.shared.add(&mut state, &record);
        Ok(record)
    }

    /// Rejects new runs and asks the running one to stop. It and the waiting ones stay in the queue on
    /// disk. Must not be called on a thread of an async runtime.
    pub(super) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        for record in &state.runs {
            if waiting.iter().any(|run| run.id() == record.id()) {
                record.close();
            } else {
                record.stop(StopCause::Shutdown);
            }
        }
        self.shared.changed.notify_all();
    }

    /// Waits until the thread has ended, some time after [`close`](Self::close).
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl State {
    fn find(&self, id: &RunId) -> Result<Arc<QueuedRun>, RequestError> {
        let found = self.runs.iter().find(|run| run.id() == id);
        found.cloned().ok_or_else(|| RequestError::UnknownRun {
            id: id.to_string(),
            known: self.ids(),
        })
    }

    fn ids(&self) -> Vec<String> {
        self.runs.iter().map(|run| run.id().to_string()).collect()
    }

    /// Checks that a run may be queued; returns its number if it is new.
    fn admit(&self, limits: &QueueConfig) -> Result<u64, RequestError> {
        if self.closed {
            return Err(RequestError::ShuttingDown);
        }
        let waiting = self.waiting.len();
        if waiting >= limits.waiting_runs {
            return Err(RequestError::QueueFull { waiting });
        }
        Ok(self.next_number)
    }
}

impl Shared {
    /// Adds a run of an earlier service.
    fn restore(&self, home: &RunsHome, mut run: StoredRun) -> Result<(), ServeError> {
        let output = home.output(&RunId::new(&run.run_id));
        let shown = PathBuf::from(output.to_string());
        let has_begun = run.state != StoredState::Queued;
        let outline = has_begun.then(|| home.outline(&output)).flatten();
        let folder = outline.as_ref().map(Outline::folder);
        if run.state == StoredState::Running {
            // The run may have finished before the service could store that.
            let finished = folder.filter(|folder| run::is_finished(folder, &run.config_toml));
            (run.state, run.reason) = match finished.map(run::withheld) {
                Some(Some(withheld)) => {
                    let reason = withheld.at(shown.clone()).to_string();
                    (StoredState::Withheld, reason)
                }
                Some(None) => (StoredState::Succeeded, String::new()),
                // If another run is finished there, this one fails when its turn comes.
                None => {
                    let reason = "the trainer was interrupted; the run resumes";
                    (StoredState::Queued, reason.to_owned())
                }
            };
            self.store
                .write(&run)
                .map_err(|error| ServeError::RunsFolder {
                    path: shown,
                    problem: error.to_string(),
                })?;
        }
        // A resumed run sends its past events again.
        let folder = folder.filter(|_| is_final(run.state.into()));
        let past = folder.map(past_events).unwrap_or_default();
        let number = run.number;
        let record = self.record(run, output, past);
        let mut state = self.lock();
        state.next_number = number + 1;
        state.runs.push(Arc::clone(&record));
        if !record.has_ended() {
            state.waiting.push_back(record);
        }
        Ok(())
    }

    fn record(&self, run: StoredRun, output: RunOutput, past: Vec<RunEvent>) -> Arc<QueuedRun> {
        Arc::new(QueuedRun::new(run, output, past, Arc::clone(&self.store)))
    }

    /// Stores a waiting run where the loss of this process, or of the machine if there is a bucket, does not reach it.
    fn keep(&self, run: &StoredRun, output: &RunOutput) -> Result<(), RequestError> {
        let written = self.store.write(run);
        written.map_err(|error| RequestError::Folder {
            folder: output.to_string().into(),
            error,
        })?;
        Ok(self.store.settle()?)
    }

    /// Adds a waiting run that is stored. If the queue was closed meanwhile, a restarted service executes it.
    fn add(&self, state: &mut State, run: &Arc<QueuedRun>) {
        state.runs.push(Arc::clone(run));
        if state.closed {
            run.close();
        } else {
            state.waiting.push_back(Arc::clone(run));
            self.changed.notify_one();
        }
    }

    /// Waits for submissions that are under way, then leaves the queue to other services.
    fn finish(&self) {
        let _alone = lock(&self.submissions);
        self.store.finish();
    }

    fn execute_runs(&self, execute: &ExecuteRun) {
        while let Some(record) = self.next() {
            info!(run = %record.id(), folder = %record.output(), "run begins");
            let events = {
                let record = Arc::clone(&record);
                EventSink::new(move |event| {
                    if let RunEvent::Notice { text } = &event {
                        info!(run = %record.id(), "{text}");
                    }
                    record.record(event);
                })
            };
            let StoredRun {
                config_toml,
                trace,
                name,
                ..
            } = record.stored();
            let span = Span::begin_as(SpanKind::Consumer, "run", Parent::Remote(trace.as_ref()))
                .with("retort.run.id", record.id().to_string())
                .with("retort.run.name", name);
            let _entered = span.enter();
            let assignment = Assignment {
                config_toml: &config_toml,
                output: record.output(),
                events,
                cancel: record.cancellation(),
            };
            // A panic in one run must not end the service; nothing of the run is used afterwards.
            let result = catch_unwind(AssertUnwindSafe(|| execute(assignment)));
            match result {
                Ok(RunResult::Succeeded) => record.end(StoredState::Succeeded, String::new()),
                Ok(RunResult::Stopped) => record.end_stopped(),
                Ok(RunResult::Withheld(reason)) => record.end(StoredState::Withheld, reason),
                Ok(RunResult::Failed(reason)) => record.end(StoredState::Failed, reason),
                Err(panic) => {
                    let reason = format!("internal error: {}", panic_message(&*panic));
                    record.end(StoredState::Failed, reason);
                }
            }
            record.close();
            let Run { run_id, reason, .. } = record.to_proto();
            if record.state() == RunState::Failed {
                span.fail(&reason);
            }
            info!(
                run = run_id,
                state = record.state().as_str_name(),
                reason,
                "run ended"
            );
        }
    }

    /// Waits for the next run and marks it as running. Returns `None` when the queue is closed.
    fn next(&self) -> Option<Arc<QueuedRun>> {
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
        lock(&self.state)
    }
}

/// No code that can panic half-way through a change runs under the locks of the queue.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events of a run before the service started; none if its folder is gone.
fn past_events(folder: &Path) -> Vec<RunEvent> {
    run::past_events(folder).unwrap_or_else(|error| {
        warn!(%error, "the events of this run cannot be read");
        Vec::new()
    })
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests;
