//! The batches that one teacher has not answered yet.

use std::collections::BTreeMap;

use soft_targets::SoftTargets;

use crate::{
    error::PoolError,
    observer::SentAs,
    parts::PartAnswers,
    queue::BatchQueue,
    unanswered::{BatchNumber, StreamNumber},
};

/// The batches that one teacher has not answered yet. They return to the queue when this is dropped.
pub(crate) struct InFlightBatches<'a> {
    /// The batches, with the answers to their parts so far.
    pub batches: BTreeMap<BatchNumber, PartAnswers>,
    /// The requests, by id.
    pub requests: BTreeMap<u64, PendingRequest>,
    pub next_request: u64,
    pub stream: StreamNumber,
    queue: &'a BatchQueue,
}

/// A request without an answer: one part of a batch.
#[derive(Clone, Copy)]
pub(crate) struct PendingRequest {
    pub batch: BatchNumber,
    pub part: usize,
    pub samples: usize,
    pub sent_as: SentAs,
}

impl<'a> InFlightBatches<'a> {
    pub fn new(queue: &'a BatchQueue) -> Self {
        Self {
            batches: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            stream: queue.open_stream(),
            queue,
        }
    }

    /// Removes the request `id`, which the teacher has answered.
    ///
    /// # Errors
    /// The teacher has no such request.
    pub fn take_request(&mut self, id: u64) -> Result<PendingRequest, String> {
        let request = self.requests.remove(&id);
        request.ok_or_else(|| format!("answered batch {id}, which it does not have"))
    }

    /// Passes the answer to a whole batch to the queue. A batch that has returned to the queue needs no answer.
    pub fn resolve(&mut self, number: BatchNumber, answer: Result<SoftTargets, PoolError>) {
        if self.batches.remove(&number).is_some() {
            self.queue.resolve(self.stream, number, answer);
        }
    }

    /// Returns every batch to the queue; returns how many wait there again.
    pub fn requeue_all(&mut self) -> usize {
        let batches = std::mem::take(&mut self.batches);
        self.queue.requeue(self.stream, batches.into_keys())
    }

    /// Returns these batches to the queue.
    pub fn requeue(&mut self, numbers: impl Iterator<Item = BatchNumber>) {
        for number in numbers {
            if self.batches.remove(&number).is_some() {
                self.queue.requeue(self.stream, std::iter::once(number));
            }
        }
    }
}

impl Drop for InFlightBatches<'_> {
    fn drop(&mut self) {
        self.requeue_all();
    }
}
