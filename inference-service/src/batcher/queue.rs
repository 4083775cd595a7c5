//! The bounded queue between async tasks and session threads.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Job;
use crate::{config::BatchingConfig, error::InferenceError};

/// Why a request cannot be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The queue is full.
    Full,
    /// A session thread has failed.
    Closed,
}

/// Queued requests in order of arrival.
#[derive(Debug)]
pub(super) struct JobQueue {
    config: BatchingConfig,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Samples of all jobs.
    samples: usize,
    /// When a batch is computed even if it is not full. Outdated while the jobs exceed one batch.
    due: Option<Instant>,
    /// Threads that sleep in [`JobQueue::take`], and how many of these were woken but have not run yet. The counts
    /// avoid superfluous wake-ups, which are system calls.
    sleeping: usize,
    woken: usize,
    closed: bool,
}

impl JobQueue {
    pub(super) fn new(config: BatchingConfig) -> Self {
        Self {
            config,
            state: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// Appends `job` without state.
    pub(super) fn push(&self, job: Job) -> Result<(), PushError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        if state.jobs.len() >= self.config.max_queue_size {
            state.remove_cancelled();
            self.update_due(&mut state);
        }
        if state.jobs.len() >= self.config.max_queue_size {
            return Err(PushError::Full);
        }
        state.samples += job.samples;
        let due = self.due(&job);
        state.due = Some(state.due.map_or(due, |earliest| earliest.min(due)));
        state.jobs.push_back(job);
        self.wake_one(state);
        Ok(())
    }

    /// Moves the next batch into the empty `batch`: waits for a first request, then until the batch or the queue is
    /// full, or a request has waited for its maximum time. Skips requests that were cancelled or whose deadline
    /// has passed.
    ///
    /// Returns `false` if the queue is closed and empty.
    pub(super) fn take(&self, batch: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        loop {
            if state.jobs.is_empty() {
                if state.closed {
                    return false;
                }
                state.sleeping += 1;
                state = self
                    .arrived
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.woke_up();
                continue;
            }
            let now = Instant::now();
            let due = state.due.unwrap_or(now);
            // While the queue is full, no request can arrive to fill the batch.
            let full = state.samples >= self.config.max_batch_size
                || state.jobs.len() >= self.config.max_queue_size;
            if full || state.closed || now >= due {
                state.fill(batch, self.config.max_batch_size, now);
                self.update_due(&mut state);
                if !batch.is_empty() {
                    break;
                }
            } else {
                state.sleeping += 1;
                let waited = self.arrived.wait_timeout(state, due - now);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                state.woke_up();
            }
        }
        if !state.jobs.is_empty() {
            // Another session thread may have missed the notification for the remaining jobs.
            self.wake_one(state);
        }
        true
    }

    /// When `job` must be computed: after the configured delay, or after half of the time to its deadline, so that
    /// the other half remains to compute it.
    fn due(&self, job: &Job) -> Instant {
        let time = |deadline: Instant| deadline.saturating_duration_since(job.enqueued);
        let half = job
            .deadline
            .map_or(Duration::MAX, |deadline| time(deadline) / 2);
        job.enqueued + self.config.max_queue_delay().min(half)
    }

    /// Updates `due` after jobs were removed.
    fn update_due(&self, state: &mut State) {
        // At most as many jobs as samples. A full batch does not wait.
        if state.samples < self.config.max_batch_size {
            state.due = state.jobs.iter().map(|job| self.due(job)).min();
        }
    }

    /// Rejects new requests. Queued requests are still computed.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Rejects new requests and drops the queued ones, which notifies their callers.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.jobs.clear();
        state.samples = 0;
        drop(state);
        self.arrived.notify_all();
    }

    /// Whether new requests are rejected.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    fn wake_one(&self, mut state: MutexGuard<'_, State>) {
        if state.sleeping > state.woken {
            state.woken += 1;
            drop(state);
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent even after a panic: every change under the lock is atomic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Moves jobs to `batch` in order as long as they fit, at least one unless all are dead.
    fn fill(&mut self, batch: &mut Vec<Job>, max_samples: usize, now: Instant) {
        let mut taken = 0;
        while let Some(next) = self.jobs.front() {
            if taken > 0 && taken + next.samples > max_samples {
                return;
            }
            let Some(job) = self.jobs.pop_front() else {
                return;
            };
            self.samples -= job.samples;
            if job.reply.is_closed() {
                continue;
            }
            if job.deadline.is_some_and(|deadline| deadline <= now) {
                // Fails if the caller has just cancelled.
                let _ = job.reply.send(Err(InferenceError::DeadlineExceeded));
                continue;
            }
            taken += job.samples;
            batch.push(job);
        }
    }

    /// Updates the counts when a thread stops sleeping.
    fn woke_up(&mut self) {
        self.sleeping -= 1;
        self.woken = self.woken.saturating_sub(1);
    }

    fn remove_cancelled(&mut self) {
        self.jobs.retain(|job| !job.reply.is_closed());
        self.samples = self.jobs.iter().map(|job| job.samples).sum();
    }
}

#[cfg(test)]
mod tests;
