//! The queue from which the teachers pull batches.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

use crate::{
    batch::TeacherBatch,
    error::PoolError,
    observer::PoolObserver,
    unanswered::{Answer, Assignment, BatchNumber, StreamNumber, UnansweredBatches},
};

/// The queue from which the teachers pull batches. A batch stays in it until its first answer.
#[derive(Debug)]
pub(crate) struct BatchQueue {
    unanswered: Mutex<UnansweredBatches>,
    streams: AtomicU64,
    /// One permit per batch that arrives.
    arrived: Notify,
    /// Wakes the tasks that wait until the queue is not empty.
    not_empty: Notify,
}

impl BatchQueue {
    /// Creates an empty queue that reports to `observer`.
    pub fn new(observer: Arc<dyn PoolObserver>) -> Self {
        Self {
            unanswered: Mutex::new(UnansweredBatches::new(observer)),
            streams: AtomicU64::default(),
            arrived: Notify::default(),
            not_empty: Notify::default(),
        }
    }

    /// Returns a number for a new stream.
    pub fn open_stream(&self) -> StreamNumber {
        StreamNumber(self.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds a batch; the receiver gets its answer.
    pub fn submit(&self, batch: TeacherBatch) -> oneshot::Receiver<Answer> {
        let answer = self.lock().submit(batch, Instant::now());
        self.arrived.notify_one();
        self.not_empty.notify_waiters();
        answer
    }

    /// Waits for a batch that `stream` may take, and takes the oldest. No batch is lost if the future is dropped.
    pub async fn pull(&self, stream: StreamNumber) -> Assignment {
        loop {
            // Registered before the check, so that a batch that arrives in between wakes this task.
            let arrived = self.arrived.notified();
            if let Some(assignment) = self.lock().assign(stream, Instant::now()) {
                return assignment;
            }
            arrived.await;
        }
    }

    /// Passes the answer of `stream` to the ticket of a batch, unless the batch was answered before.
    pub fn resolve(&self, stream: StreamNumber, number: BatchNumber, answer: Answer) {
        let reply = self.lock().resolve(stream, number, Instant::now());
        if let Some(reply) = reply {
            // An error means that the ticket was dropped.
            let _ = reply.send(answer);
        }
    }

    /// Returns batches that a lost stream has not answered to the queue; returns how many wait again.
    pub fn requeue(
        &self,
        stream: StreamNumber,
        numbers: impl Iterator<Item = BatchNumber>,
    ) -> usize {
        let requeued = self.lock().requeue(stream, numbers);
        if requeued > 0 {
            self.arrived.notify_waiters();
        }
        requeued
    }

    /// Offers the overdue batches of the stream that has the oldest batch to a second teacher, if that batch is overdue.
    /// Returns when to check again, or `None` while the queue is empty.
    pub fn hedge(&self) -> Option<Duration> {
        let (check_after, offered) = self.lock().hedge(Instant::now());
        if offered {
            // All are woken, because the slow teacher itself may not take the batch.
            self.arrived.notify_waiters();
        }
        check_after
    }

    /// Waits until a batch has no answer.
    pub async fn until_not_empty(&self) {
        loop {
            let not_empty = self.not_empty.notified();
            if !self.lock().is_empty() {
                return;
            }
            not_empty.await;
        }
    }

    /// Fails every batch without an answer, and each new one until [`BatchQueue::resume`].
    pub fn fail_all(&self, error: &PoolError) {
        let replies = self.lock().fail_all(error);
        for reply in replies {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Accepts batches again.
    pub fn resume(&self) {
        self.lock().resume();
    }

    /// Returns how long the oldest batch has waited without any batch being answered.
    pub fn stalled_for(&self) -> Duration {
        self.lock().stalled_for(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, UnansweredBatches> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
