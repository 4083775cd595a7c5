//! The batches without an answer: which teachers have them, and which batches a teacher may take.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use soft_targets::SoftTargets;
use tokio::sync::oneshot;

use crate::{batch::TeacherBatch, error::PoolError, observer::PoolObserver, round_trip::RoundTrip};

/// The batches without an answer. The first answer removes a batch, so each gets exactly one.
///
/// Teachers take the oldest batch first. A batch that returns from a lost teacher is older than the ones that wait, so
/// it goes first: training consumes batches in order.
#[derive(Debug)]
pub(crate) struct UnansweredBatches {
    observer: Arc<dyn PoolObserver>,
    batches: BTreeMap<BatchNumber, UnansweredBatch>,
    /// The batches that a teacher may take: no teacher has them, or the one that has them is overdue.
    waiting: BTreeSet<BatchNumber>,
    next_number: u64,
    round_trip: RoundTrip,
    last_answer: Option<Instant>,
    /// The error with which new batches fail at once.
    failure: Option<PoolError>,
}

/// The number of a batch, in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchNumber(pub u64);

/// The number of a stream to a teacher; each reconnection gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamNumber(pub u64);

/// A batch that a teacher has to answer.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub number: BatchNumber,
    /// Its bytes are shared, not copied.
    pub batch: TeacherBatch,
}

pub(crate) type Answer = Result<SoftTargets, PoolError>;

#[derive(Debug)]
struct UnansweredBatch {
    batch: TeacherBatch,
    reply: oneshot::Sender<Answer>,
    submitted: Instant,
    holders: Vec<Holder>,
    _counted: CountedBatch,
}

/// A stream whose teacher has a batch.
#[derive(Debug, Clone, Copy)]
struct Holder {
    stream: StreamNumber,
    since: Instant,
}

/// Reports a batch as submitted, and as finished when it is dropped.
#[derive(Debug)]
struct CountedBatch(Arc<dyn PoolObserver>);

impl UnansweredBatches {
    pub fn new(observer: Arc<dyn PoolObserver>) -> Self {
        Self {
            observer,
            batches: BTreeMap::new(),
            waiting: BTreeSet::new(),
            next_number: 0,
            round_trip: RoundTrip::default(),
            last_answer: None,
            failure: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Adds a batch; the receiver gets its answer.
    pub fn submit(&mut self, batch: TeacherBatch, now: Instant) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        if let Some(error) = &self.failure {
            // Cannot fail, because `answer` is the receiver.
            let _ = reply.send(Err(error.clone()));
            return answer;
        }
        let number = BatchNumber(self.next_number);
        self.next_number += 1;
        let batch = UnansweredBatch {
            batch,
            reply,
            submitted: now,
            holders: Vec::new(),
            _counted: CountedBatch::new(&self.observer),
        };
        self.batches.insert(number, batch);
        self.waiting.insert(number);
        answer
    }

    /// Gives `stream` the oldest waiting batch that it does not have yet.
    pub fn assign(&mut self, stream: StreamNumber, now: Instant) -> Option<Assignment> {
        let Self {
            batches,
            waiting,
            observer,
            ..
        } = self;
        let has = |batch: &UnansweredBatch| {
            let mut holders = batch.holders.iter();
            holders.any(|holder| holder.stream == stream)
        };
        let number = loop {
            let number = *waiting
                .iter()
                .find(|number| !batches.get(number).is_some_and(has))?;
            waiting.remove(&number);
            match batches.get(&number) {
                Some(batch) if !batch.reply.is_closed() => break number,
                // Its ticket was dropped.
                _ => drop(batches.remove(&number)),
            }
        };
        let batch = batches.get_mut(&number)?;
        if !batch.holders.is_empty() {
            observer.batch_hedged();
        }
        batch.holders.push(Holder { stream, since: now });
        Some(Assignment {
            number,
            batch: batch.batch.clone(),
        })
    }

    /// Removes a batch that `stream` has answered; returns the sender of its ticket. Returns `None` if the batch was
    /// answered before.
    pub fn resolve(
        &mut self,
        stream: StreamNumber,
        number: BatchNumber,
        now: Instant,
    ) -> Option<oneshot::Sender<Answer>> {
        self.last_answer = Some(now);
        let Some(batch) = self.batches.remove(&number) else {
            self.observer.answer_dropped();
            return None;
        };
        self.waiting.remove(&number);
        if let Some(holder) = batch.holders.iter().find(|holder| holder.stream == stream) {
            self.round_trip.observe(now - holder.since);
        }
        Some(batch.reply)
    }

    /// Makes the batches that only a lost stream had wait again; returns how many.
    pub fn requeue(
        &mut self,
        stream: StreamNumber,
        numbers: impl Iterator<Item = BatchNumber>,
    ) -> usize {
        let mut requeued = 0;
        for number in numbers {
            let Some(batch) = self.batches.get_mut(&number) else {
                continue;
            };
            batch.holders.retain(|holder| holder.stream != stream);
            if batch.holders.is_empty() && self.waiting.insert(number) {
                requeued += 1;
            }
        }
        self.observer.batches_requeued(requeued);
        requeued
    }

    /// Makes all overdue batches of the stream that has the oldest batch wait for a second teacher, if the oldest batch
    /// is overdue. Returns when to check again, or `None` if there is no batch, and whether batches were offered.
    pub fn hedge(&mut self, now: Instant) -> (Option<Duration>, bool) {
        let overdue_after = self.round_trip.overdue_after();
        let Some((_, oldest)) = self.batches.first_key_value() else {
            return (None, false);
        };
        let slow = match oldest.holders[..] {
            [holder] => holder,
            // No teacher has it yet, or a second one has it already.
            _ => return (Some(overdue_after), false),
        };
        let age = now - slow.since;
        if age < overdue_after {
            return (Some(overdue_after - age), false);
        }
        let waiting_before = self.waiting.len();
        for (number, batch) in &self.batches {
            let is_overdue = matches!(batch.holders[..], [holder]
                if holder.stream == slow.stream && now - holder.since >= overdue_after);
            if is_overdue {
                self.waiting.insert(*number);
            }
        }
        (Some(overdue_after), self.waiting.len() > waiting_before)
    }

    /// Removes all batches and fails each new one until [`UnansweredBatches::resume`]; returns the senders of their
    /// tickets.
    pub fn fail_all(&mut self, error: &PoolError) -> Vec<oneshot::Sender<Answer>> {
        self.failure = Some(error.clone());
        self.waiting.clear();
        let batches = std::mem::take(&mut self.batches);
        batches.into_values().map(|batch| batch.reply).collect()
    }

    /// Accepts batches again.
    pub fn resume(&mut self) {
        self.failure = None;
    }

    /// Returns how long the oldest batch has waited without any batch being answered.
    pub fn stalled_for(&self, now: Instant) -> Duration {
        match self.batches.first_key_value() {
            Some((_, oldest)) => {
                let submitted = oldest.submitted;
                now - self
                    .last_answer
                    .map_or(submitted, |last| last.max(submitted))
            }
            None => Duration::ZERO,
        }
    }
}

impl CountedBatch {
    fn new(observer: &Arc<dyn PoolObserver>) -> Self {
        observer.batch_submitted();
        Self(Arc::clone(observer))
    }
}

impl Drop for CountedBatch {
    fn drop(&mut self) {
        self.0.batch_finished();
    }
}

#[cfg(test)]
mod tests;
