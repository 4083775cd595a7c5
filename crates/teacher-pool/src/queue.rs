//! The queue that teachers pull batches from.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use soft_targets::SoftTargets;
use tokio::sync::{Notify, oneshot};

use crate::{
    error::PoolError,
    observer::PoolObserver,
    unanswered::{Answer, Assignment, BatchNumber, Counts, StreamNumber, UnansweredBatches},
};

/// Every batch without an answer. A batch leaves by its first answer, so there is exactly one.
///
/// What comes back from a lost teacher goes before what is newer, since training waits for batches
/// in order.
#[derive(Debug)]
pub(crate) struct BatchQueue {
    unanswered: Mutex<UnansweredBatches>,
    streams: AtomicU64,
    /// One permit a batch that arrives.
    arrived: Notify,
    /// Wakes whoever waits for the first batch.
    demanded: Notify,
}

impl BatchQueue {
    /// An empty queue that reports to `observer`.
    pub fn new(observer: Arc<dyn PoolObserver>) -> Self {
        Self {
            unanswered: Mutex::new(UnansweredBatches::new(observer)),
            streams: AtomicU64::default(),
            arrived: Notify::default(),
            demanded: Notify::default(),
        }
    }

    /// A number for a new stream.
    pub fn open_stream(&self) -> StreamNumber {
        StreamNumber(self.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a batch in; its answer comes out of the receiver.
    pub fn submit(&self, pixels: Bytes, shape: [usize; 4]) -> oneshot::Receiver<Answer> {
        let answer = self.lock().submit(pixels, shape, Instant::now());
        self.arrived.notify_one();
        self.demanded.notify_waiters();
        answer
    }

    /// The oldest batch that `stream` may take, once there is one. Nothing is lost when the future
    /// is dropped.
    pub async fn pull(&self, stream: StreamNumber) -> Assignment {
        loop {
            // Before the look: a batch that comes in between wakes it.
            let arrived = self.arrived.notified();
            if let Some(assignment) = self.lock().assign(stream, Instant::now()) {
                return assignment;
            }
            arrived.await;
        }
    }

    /// Passes an answer of `stream` on, unless the batch was answered already.
    pub fn settle(&self, stream: StreamNumber, number: BatchNumber, answer: Answer) {
        let reply = self.lock().settle(stream, number, Instant::now());
        if let Some(reply) = reply {
            // Nobody may wait for it any more: no error.
            let _ = reply.send(answer);
        }
    }

    /// Takes back what a lost stream had not answered; gives how many batches wait again.
    pub fn take_back(
        &self,
        stream: StreamNumber,
        numbers: impl Iterator<Item = BatchNumber>,
    ) -> usize {
        let back = self.lock().take_back(stream, numbers);
        if back > 0 {
            self.arrived.notify_waiters();
        }
        back
    }

    /// Lets others take what a straggler has that holds the head of the line: the teacher of the
    /// oldest batch, if that is overdue. Gives when to look again; `None` while nobody has a batch.
    pub fn hedge(&self) -> Option<Duration> {
        let (again, offered) = self.lock().hedge(Instant::now());
        if offered {
            // All of them: the straggler itself cannot take it.
            self.arrived.notify_waiters();
        }
        again
    }

    /// Waits until a batch has no answer.
    pub async fn demand(&self) {
        loop {
            let demanded = self.demanded.notified();
            if !self.lock().is_empty() {
                return;
            }
            demanded.await;
        }
    }

    /// Fails every batch without an answer, and each that comes, until [`BatchQueue::resume`].
    pub fn give_up(&self, error: &PoolError) {
        let replies = self.lock().give_up(error);
        for reply in replies {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Takes batches again.
    pub fn resume(&self) {
        self.lock().resume();
    }

    /// For how long the oldest batch has waited in vain: no answer came since, to any batch.
    pub fn stalled_for(&self) -> Duration {
        self.lock().stalled_for(Instant::now())
    }

    /// What happened so far, and what is under way.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    fn lock(&self) -> MutexGuard<'_, UnansweredBatches> {
        // No code that can panic runs under the lock.
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
