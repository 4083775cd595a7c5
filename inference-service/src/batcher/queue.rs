//! The bounded queue between the async side and the sessions' threads.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Job;
use crate::{config::BatchingConfig, error::InferenceError};

/// Why a request does not get into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many wait as may.
    Full,
    /// A thread that should empty the queue has failed.
    Closed,
}

/// Requests in the order in which they came.
#[derive(Debug)]
pub(super) struct JobQueue {
    config: BatchingConfig,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Of all jobs together.
    samples: usize,
    /// When a batch is computed though it is not full: no job waits longer. Kept while the jobs would
    /// fit into one batch; otherwise it may be that of a job which has left.
    due: Option<Instant>,
    /// Threads that sleep in [`JobQueue::take`], and how many of them have been woken but did not run
    /// yet. Waking nobody, or somebody twice, would still be a system call.
    sleeping: usize,
    woken: usize,
    closed: bool,
}

impl JobQueue {
    pub(super) fn new(config: BatchingConfig) -> Self {
        Self {
            config,
            waiting: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// Appends `job`, without waiting.
    pub(super) fn push(&self, job: Job) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if waiting.jobs.len() >= self.config.max_queue_size {
            waiting.remove_abandoned();
            self.update_due(&mut waiting);
        }
        if waiting.jobs.len() >= self.config.max_queue_size {
            return Err(Refused::Full);
        }
        waiting.samples += job.samples;
        let due = self.due(&job);
        waiting.due = Some(waiting.due.map_or(due, |earliest| earliest.min(due)));
        waiting.jobs.push_back(job);
        self.wake_one(waiting);
        Ok(())
    }

    /// Moves the next batch into `batch`, which is empty: waits for a first request, then until the batch
    /// or the queue is full or a request has waited as long as it may. Requests whose callers have gone or
    /// whose time is up are left out.
    ///
    /// Returns `false` when the queue is closed and empty.
    pub(super) fn take(&self, batch: &mut Vec<Job>) -> bool {
        let mut waiting = self.lock();
        loop {
            if waiting.jobs.is_empty() {
                if waiting.closed {
                    return false;
                }
                waiting.sleeping += 1;
                waiting = self
                    .arrived
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
                waiting.awake();
                continue;
            }
            let now = Instant::now();
            let due = waiting.due.unwrap_or(now);
            // A full queue lets nothing in that the batch could wait for.
            let full = waiting.samples >= self.config.max_batch_size
                || waiting.jobs.len() >= self.config.max_queue_size;
            if full || waiting.closed || now >= due {
                waiting.fill(batch, self.config.max_batch_size, now);
                self.update_due(&mut waiting);
                if !batch.is_empty() {
                    break;
                }
            } else {
                waiting.sleeping += 1;
                let waited = self.arrived.wait_timeout(waiting, due - now);
                (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
                waiting.awake();
            }
        }
        if !waiting.jobs.is_empty() {
            // Another session's thread may have slept through the news of these.
            self.wake_one(waiting);
        }
        true
    }

    /// When `job` has waited for others as long as it may: for the configured delay, or for half of the
    /// time that its caller gives, so that the other half is left to compute it.
    fn due(&self, job: &Job) -> Instant {
        let time = |deadline: Instant| deadline.saturating_duration_since(job.enqueued);
        let patience = job
            .deadline
            .map_or(Duration::MAX, |deadline| time(deadline) / 2);
        job.enqueued + self.config.max_queue_delay().min(patience)
    }

    /// To be called when jobs have left.
    fn update_due(&self, waiting: &mut Waiting) {
        // No more jobs than samples. Where a batch is full, nothing waits for a time.
        if waiting.samples < self.config.max_batch_size {
            waiting.due = waiting.jobs.iter().map(|job| self.due(job)).min();
        }
    }

    /// Refuses new requests; what waits is still computed.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Refuses new requests and drops what waits: its callers learn that nobody will answer.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.jobs.clear();
        waiting.samples = 0;
        drop(waiting);
        self.arrived.notify_all();
    }

    /// Whether new requests are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    fn wake_one(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.sleeping > waiting.woken {
            waiting.woken += 1;
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change under the lock is complete or has not begun, also after a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Moves jobs to `batch` in order, as long as they fit; at least one where any is alive.
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
                // An error means that the caller has gone in this very moment.
                let _ = job.reply.send(Err(InferenceError::DeadlineExceeded));
                continue;
            }
            taken += job.samples;
            batch.push(job);
        }
    }

    /// A thread has stopped sleeping, woken or by itself.
    fn awake(&mut self) {
        self.sleeping -= 1;
        self.woken = self.woken.saturating_sub(1);
    }

    fn remove_abandoned(&mut self) {
        self.jobs.retain(|job| !job.reply.is_closed());
        self.samples = self.jobs.iter().map(|job| job.samples).sum();
    }
}

#[cfg(test)]
mod tests;
