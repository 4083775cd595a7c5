//! Batches that wait for a teacher, in the order of their submission.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use common::soft_targets::SoftTargets;
use tokio::sync::{Notify, oneshot};

use super::PoolError;
use crate::metrics::{self, BatchInFlight};

/// A batch's number in the order of submission; its id on every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchNumber(pub u64);

/// A batch that has no answer yet.
#[derive(Debug)]
pub(super) struct PendingBatch {
    pub number: BatchNumber,
    /// u8, row-major; shared with whoever sends it.
    pub pixels: Bytes,
    /// [batch, channels, height, width]
    pub shape: [usize; 4],
    reply: oneshot::Sender<Result<SoftTargets, PoolError>>,
    _in_flight: BatchInFlight,
}

impl PendingBatch {
    /// Answers the ticket. Nobody may wait for it any more: no error.
    pub fn answer(self, answer: Result<SoftTargets, PoolError>) {
        let _ = self.reply.send(answer);
    }
}

/// Batches that wait. What comes back goes before what is newer, since training waits for batches
/// in order.
#[derive(Debug, Default)]
pub(super) struct BatchQueue {
    waiting: Mutex<BTreeMap<BatchNumber, PendingBatch>>,
    next_number: AtomicU64,
    requeued: AtomicU64,
    arrived: Notify,
}

impl BatchQueue {
    pub fn submit(
        &self,
        pixels: Bytes,
        shape: [usize; 4],
        reply: oneshot::Sender<Result<SoftTargets, PoolError>>,
    ) {
        let number = BatchNumber(self.next_number.fetch_add(1, Ordering::Relaxed));
        let batch = PendingBatch {
            number,
            pixels,
            shape,
            reply,
            _in_flight: BatchInFlight::count(),
        };
        self.lock().insert(number, batch);
        self.arrived.notify_waiters();
    }

    /// Takes back what a lost teacher had not answered.
    pub fn requeue(&self, batches: BTreeMap<BatchNumber, PendingBatch>) {
        self.requeued
            .fetch_add(batches.len() as u64, Ordering::Relaxed);
        metrics::batches_requeued(batches.len());
        self.lock().extend(batches);
        self.arrived.notify_waiters();
    }

    /// The oldest batch, once there is one. Nothing is lost when the future is dropped.
    pub async fn pull(&self) -> PendingBatch {
        loop {
            // Before the look: a batch that comes in between wakes it.
            let arrived = self.arrived.notified();
            if let Some(batch) = self.take() {
                return batch;
            }
            arrived.await;
        }
    }

    /// Waits until a batch waits.
    pub async fn not_empty(&self) {
        loop {
            let arrived = self.arrived.notified();
            if !self.lock().is_empty() {
                return;
            }
            arrived.await;
        }
    }

    /// Fails every batch that waits.
    pub fn fail_all(&self, error: &PoolError) {
        for batch in std::mem::take(&mut *self.lock()).into_values() {
            batch.answer(Err(error.clone()));
        }
    }

    pub fn requeued(&self) -> u64 {
        self.requeued.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<PendingBatch> {
        let mut waiting = self.lock();
        loop {
            let (_, batch) = waiting.pop_first()?;
            if !batch.reply.is_closed() {
                return Some(batch);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BatchNumber, PendingBatch>> {
        // No code that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<SoftTargets, PoolError>>;

    fn submit(queue: &BatchQueue, count: usize) -> Vec<Answer> {
        let submit = |_| {
            let (reply, answer) = oneshot::channel();
            queue.submit(Bytes::new(), [0; 4], reply);
            answer
        };
        (0..count).map(submit).collect()
    }

    #[tokio::test]
    async fn what_comes_back_goes_first() {
        let queue = BatchQueue::default();
        let _tickets = submit(&queue, 4);
        let first = queue.pull().await;
        let second = queue.pull().await;
        assert_eq!(first.number, BatchNumber(0));
        queue.requeue([first, second].map(|batch| (batch.number, batch)).into());
        assert_eq!(queue.requeued(), 2);
        for expected in 0..4 {
            assert_eq!(queue.pull().await.number, BatchNumber(expected));
        }
    }

    #[tokio::test]
    async fn a_batch_nobody_waits_for_is_left_out() {
        let queue = BatchQueue::default();
        let mut tickets = submit(&queue, 2);
        drop(tickets.remove(0));
        assert_eq!(queue.pull().await.number, BatchNumber(1));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let queue = std::sync::Arc::new(BatchQueue::default());
        let waiting = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.pull().await.number }
        });
        tokio::task::yield_now().await;
        let _tickets = submit(&queue, 1);
        assert_eq!(waiting.await.unwrap(), BatchNumber(0));
    }

    #[tokio::test]
    async fn failing_answers_every_ticket() {
        let queue = BatchQueue::default();
        let tickets = submit(&queue, 3);
        queue.fail_all(&PoolError::Closed);
        for ticket in tickets {
            assert_eq!(ticket.await.unwrap(), Err(PoolError::Closed));
        }
    }
}
