//! Batches that have no answer yet: who has them, and who may take them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use soft_targets::SoftTargets;
use tokio::sync::oneshot;

use crate::{error::PoolError, observer::PoolObserver, round_trip::RoundTrip};

/// A batch's number in the order of submission; its id on every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchNumber(pub u64);

/// A stream to a teacher; another one after each reconnection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamNumber(pub u64);

/// What a teacher is to answer.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub number: BatchNumber,
    /// u8, row-major; shared with whoever else has it.
    pub pixels: Bytes,
    /// [batch, channels, height, width]
    pub shape: [usize; 4],
}

pub(crate) type Answer = Result<SoftTargets, PoolError>;

/// Every batch without an answer. A batch leaves by its first answer, so there is exactly one.
///
/// What comes back from a lost teacher goes before what is newer, since training waits for batches
/// in order.
#[derive(Debug)]
pub(crate) struct UnansweredBatches {
    observer: Arc<dyn PoolObserver>,
    batches: BTreeMap<BatchNumber, Unanswered>,
    /// Those of them that a teacher may take: nobody has it, or the one who has it is overdue.
    waiting: BTreeSet<BatchNumber>,
    next_number: u64,
    round_trip: RoundTrip,
    last_answer: Option<Instant>,
    /// Why nothing is taken at present.
    gave_up: Option<PoolError>,
    counts: Counts,
}

#[derive(Debug)]
struct Unanswered {
    pixels: Bytes,
    shape: [usize; 4],
    reply: oneshot::Sender<Answer>,
    submitted: Instant,
    holders: Vec<Holder>,
    _counted: CountedBatch,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    stream: StreamNumber,
    since: Instant,
}

/// What happened so far, and what is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Batches that wait for a teacher.
    pub waiting: usize,
    /// Batches that a teacher has.
    pub in_flight: usize,
    /// Batches answered.
    pub answered: u64,
    /// Batches that went back because their teacher was lost.
    pub requeued: u64,
    /// Batches given to a second teacher because the first was overdue.
    pub hedged: u64,
    /// Answers that came second, and were dropped.
    pub dropped: u64,
}

/// Reports a batch as submitted, and as finished when it leaves the queue in whatever way.
#[derive(Debug)]
struct CountedBatch(Arc<dyn PoolObserver>);

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

impl UnansweredBatches {
    pub fn new(observer: Arc<dyn PoolObserver>) -> Self {
        Self {
            observer,
            batches: BTreeMap::new(),
            waiting: BTreeSet::new(),
            next_number: 0,
            round_trip: RoundTrip::default(),
            last_answer: None,
            gave_up: None,
            counts: Counts::default(),
        }
    }

    pub fn submit(
        &mut self,
        pixels: Bytes,
        shape: [usize; 4],
        now: Instant,
    ) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        if let Some(error) = &self.gave_up {
            // Cannot fail: the receiver is in hand.
            let _ = reply.send(Err(error.clone()));
            return answer;
        }
        let number = BatchNumber(self.next_number);
        self.next_number += 1;
        let batch = Unanswered {
            pixels,
            shape,
            reply,
            submitted: now,
            holders: Vec::new(),
            _counted: CountedBatch::new(&self.observer),
        };
        self.batches.insert(number, batch);
        self.waiting.insert(number);
        answer
    }

    pub fn assign(&mut self, stream: StreamNumber, now: Instant) -> Option<Assignment> {
        let Self {
            batches,
            waiting,
            counts,
            observer,
            ..
        } = self;
        let has = |batch: &Unanswered| batch.holders.iter().any(|holder| holder.stream == stream);
        let number = loop {
            let number = *waiting
                .iter()
                .find(|number| !batches.get(number).is_some_and(has))?;
            waiting.remove(&number);
            match batches.get(&number) {
                Some(batch) if !batch.reply.is_closed() => break number,
                // Its ticket was dropped: nobody needs the answer.
                _ => drop(batches.remove(&number)),
            }
        };
        let batch = batches.get_mut(&number)?;
        if !batch.holders.is_empty() {
            counts.hedged += 1;
            observer.batch_hedged();
        }
        batch.holders.push(Holder { stream, since: now });
        Some(Assignment {
            number,
            pixels: batch.pixels.clone(),
            shape: batch.shape,
        })
    }

    pub fn settle(
        &mut self,
        stream: StreamNumber,
        number: BatchNumber,
        now: Instant,
    ) -> Option<oneshot::Sender<Answer>> {
        self.last_answer = Some(now);
        let Some(batch) = self.batches.remove(&number) else {
            self.counts.dropped += 1;
            self.observer.answer_dropped();
            return None;
        };
        self.waiting.remove(&number);
        self.counts.answered += 1;
        if let Some(holder) = batch.holders.iter().find(|holder| holder.stream == stream) {
            self.round_trip.observe(now - holder.since);
        }
        Some(batch.reply)
    }

    pub fn hedge(&mut self, now: Instant) -> (Option<Duration>, bool) {
        let overdue_after = self.round_trip.overdue_after();
        let mut held = self.batches.iter_mut();
        let Some((_, head)) = held.next() else {
            return (None, false);
        };
        let straggler = match head.holders[..] {
            [holder] => holder,
            // Nobody has it yet, or it was hedged already.
            _ => return (Some(overdue_after), false),
        };
        let age = now - straggler.since;
        if age < overdue_after {
            return (Some(overdue_after - age), false);
        }
        let before = self.waiting.len();
        for (number, batch) in &self.batches {
            let is_late = matches!(batch.holders[..], [holder]
                if holder.stream == straggler.stream && now - holder.since >= overdue_after);
            if is_late {
                self.waiting.insert(*number);
            }
        }
        (Some(overdue_after), self.waiting.len() > before)
    }

    pub fn stalled_for(&self, now: Instant) -> Duration {
        match self.batches.first_key_value() {
            Some((_, oldest)) => {
                now - self
                    .last_answer
                    .map_or(oldest.submitted, |last| last.max(oldest.submitted))
            }
            None => Duration::ZERO,
        }
    }

    pub fn take_back(
        &mut self,
        stream: StreamNumber,
        numbers: impl Iterator<Item = BatchNumber>,
    ) -> usize {
        let mut back = 0;
        for number in numbers {
            let Some(batch) = self.batches.get_mut(&number) else {
                continue;
            };
            batch.holders.retain(|holder| holder.stream != stream);
            if batch.holders.is_empty() && self.waiting.insert(number) {
                back += 1;
            }
        }
        self.counts.requeued += back as u64;
        self.observer.batches_requeued(back);
        back
    }

    pub fn give_up(&mut self, error: &PoolError) -> Vec<oneshot::Sender<Answer>> {
        self.gave_up = Some(error.clone());
        self.waiting.clear();
        let batches = std::mem::take(&mut self.batches);
        batches.into_values().map(|batch| batch.reply).collect()
    }

    pub fn resume(&mut self) {
        self.gave_up = None;
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn counts(&self) -> Counts {
        let held = |batch: &&Unanswered| !batch.holders.is_empty();
        let in_flight = self.batches.values().filter(held).count();
        Counts {
            in_flight,
            waiting: self.batches.len() - in_flight,
            ..self.counts
        }
    }
}

#[cfg(test)]
mod tests;
