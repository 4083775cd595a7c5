//! What a teacher has and has not answered.

use std::collections::BTreeMap;

use soft_targets::SoftTargets;

use crate::{
    error::PoolError,
    parts::Answers,
    queue::BatchQueue,
    unanswered::{BatchNumber, StreamNumber},
};

/// What the teacher has; the batches left go back to the queue however the stream ends.
pub(crate) struct InFlight<'a> {
    /// With the answers to their parts so far.
    pub batches: BTreeMap<BatchNumber, Answers>,
    /// By their ids.
    pub requests: BTreeMap<u64, Asked>,
    pub next_request: u64,
    pub stream: StreamNumber,
    queue: &'a BatchQueue,
}

/// What a request asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub batch: BatchNumber,
    pub part: usize,
    pub samples: usize,
}

impl<'a> InFlight<'a> {
    pub fn new(queue: &'a BatchQueue) -> Self {
        Self {
            batches: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            stream: queue.open_stream(),
            queue,
        }
    }

    /// What the request that is answered now asked for.
    pub fn answered(&mut self, id: u64) -> Result<Asked, String> {
        let asked = self.requests.remove(&id);
        asked.ok_or_else(|| format!("answered batch {id}, which it does not have"))
    }

    pub fn settle(&mut self, number: BatchNumber, answer: Result<SoftTargets, PoolError>) {
        if self.batches.remove(&number).is_some() {
            self.queue.settle(self.stream, number, answer);
        }
    }

    pub fn give_back(&mut self) -> usize {
        let batches = std::mem::take(&mut self.batches);
        self.queue.take_back(self.stream, batches.into_keys())
    }

    pub fn give_back_these(&mut self, numbers: impl Iterator<Item = BatchNumber>) {
        for number in numbers {
            if self.batches.remove(&number).is_some() {
                self.queue.take_back(self.stream, std::iter::once(number));
            }
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}
