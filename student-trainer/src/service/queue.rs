//! The queue of runs and the one thread that does them.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use proto::runs::v1::{Run, RunState};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    error::ServiceError,
    event_log::is_final,
    folder,
    record::{RunId, RunRecord},
};
use crate::{
    config::QueueConfig,
    events::{EventSink, RunEvent},
};

/// Why a run ended before its time; `Display` is shown to people.
pub(super) type JobError = Box<dyn std::error::Error + Send + Sync>;

/// What a run does, called on the queue's thread with a folder of its own.
pub(super) type Job =
    Box<dyn FnOnce(&Path, EventSink, CancellationToken) -> Result<(), JobError> + Send>;

/// Runs in the order submitted, done one at a time.
pub(super) struct RunQueue {
    shared: Arc<Shared>,
    /// Cancelled when the thread has ended.
    ended: CancellationToken,
    runs_folder: PathBuf,
    limits: QueueConfig,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Every run that is remembered, oldest first.
    runs: Vec<Arc<RunRecord>>,
    waiting: VecDeque<(Arc<RunRecord>, Job)>,
    closed: bool,
}

impl RunQueue {
    /// Starts the thread that does the runs, in folders below `runs_folder`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(super) fn start(runs_folder: PathBuf, limits: QueueConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let ended = CancellationToken::new();
        let (work, at_end) = (Arc::clone(&shared), ended.clone().drop_guard());
        thread::Builder::new()
            .name("runs".to_owned())
            .spawn(move || {
                work.do_runs();
                drop(at_end);
            })?;
        Ok(Self {
            shared,
            ended,
            runs_folder,
            limits,
        })
    }

    /// Makes a folder `name` (`name-2`, `name-3`, … where that is taken) and queues `job`.
    pub(super) fn submit(&self, name: &str, job: Job) -> Result<Arc<RunRecord>, ServiceError> {
        folder::check_name(name)?;
        let mut state = self.shared.lock();
        if state.closed {
            return Err(ServiceError::ShuttingDown);
        }
        if state.waiting.len() >= self.limits.waiting_runs {
            return Err(ServiceError::QueueFull {
                waiting: state.waiting.len(),
            });
        }
        let (id, folder) = folder::allocate(&self.runs_folder, name)?;
        let record = Arc::new(RunRecord::new(id, name.to_owned(), folder));
        state.runs.push(Arc::clone(&record));
        state.forget_ended(self.limits.remembered_runs);
        state.waiting.push_back((Arc::clone(&record), job));
        self.shared.changed.notify_one();
        Ok(record)
    }

    pub(super) fn get(&self, id: &RunId) -> Result<Arc<RunRecord>, ServiceError> {
        let state = self.shared.lock();
        let found = state.runs.iter().find(|run| run.id() == id);
        found.cloned().ok_or_else(|| ServiceError::UnknownRun {
            id: id.to_string(),
            known: state.runs.iter().map(|run| run.id().to_string()).collect(),
        })
    }

    pub(super) fn list(&self) -> Vec<Arc<RunRecord>> {
        self.shared.lock().runs.clone()
    }

    /// Ends a waiting run at once, asks a running one to stop.
    pub(super) fn cancel(&self, id: &RunId) -> Result<Arc<RunRecord>, ServiceError> {
        let record = self.get(id)?;
        let mut state = self.shared.lock();
        let waiting = state.waiting.iter().position(|(run, _)| run.id() == id);
        if let Some(position) = waiting {
            state.waiting.remove(position);
            record.end_unstarted("cancelled before it began");
        } else if is_final(record.state()) {
            return Err(ServiceError::AlreadyEnded {
                id: id.to_string(),
                state: record.state(),
            });
        } else {
            record.stop("cancelled on request");
        }
        Ok(record)
    }

    /// Takes no more runs, cancels the waiting ones and asks the running one to stop.
    pub(super) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for (record, _) in state.waiting.drain(..) {
            record.end_unstarted("the trainer was shut down before the run began");
        }
        for record in state.runs.iter().filter(|run| !is_final(run.state())) {
            record.stop("the trainer was shut down");
        }
        self.shared.changed.notify_all();
    }

    /// Waits until the thread has ended, which it does some time after [`close`](Self::close).
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Shared {
    fn do_runs(&self) {
        while let Some((record, job)) = self.next() {
            info!(run = %record.id(), folder = %record.folder().display(), "run begins");
            let sink = {
                let record = Arc::clone(&record);
                EventSink::new(move |event| {
                    if let RunEvent::Notice { text } = &event {
                        info!(run = %record.id(), "{text}");
                    }
                    record.record(event);
                })
            };
            // A bug in one run must not end the service: nothing of the job is used afterwards.
            let result = catch_unwind(AssertUnwindSafe(|| {
                job(record.folder(), sink, record.cancellation())
            }));
            match result {
                Ok(Ok(())) => record.end(RunState::Succeeded, String::new()),
                Ok(Err(error)) => record.end_early(&error.to_string()),
                Err(panic) => record.end_early(&format!("internal error: {}", text(&*panic))),
            }
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
    fn next(&self) -> Option<(Arc<RunRecord>, Job)> {
        let mut state = self.lock();
        loop {
            if let Some((record, job)) = state.waiting.pop_front() {
                record.begin();
                return Some((record, job));
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic half-way through a change runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_ended(&mut self, kept: usize) {
        let ended = self.runs.iter().filter(|run| is_final(run.state())).count();
        let mut surplus = ended.saturating_sub(kept);
        self.runs.retain(|run| {
            let forget = surplus > 0 && is_final(run.state());
            surplus -= usize::from(forget);
            !forget
        });
    }
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests;
