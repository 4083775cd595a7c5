//! Batches that have no answer yet: who has them, and who may take them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use soft_targets::SoftTargets;
use tokio::sync::{Notify, oneshot};

use super::{PoolError, PoolObserver, round_trip::RoundTrip};

/// A batch's number in the order of submission; its id on every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchNumber(pub u64);

/// A stream to a teacher; another one after each reconnection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamNumber(u64);

/// What a teacher is to answer.
#[derive(Debug)]
pub(super) struct Assignment {
    pub number: BatchNumber,
    /// u8, row-major; shared with whoever else has it.
    pub pixels: Bytes,
    /// [batch, channels, height, width]
    pub shape: [usize; 4],
}

type Answer = Result<SoftTargets, PoolError>;

/// Every batch without an answer. A batch leaves by its first answer, so there is exactly one.
///
/// What comes back from a lost teacher goes before what is newer, since training waits for batches
/// in order.
#[derive(Debug)]
pub(super) struct BatchQueue {
    state: Mutex<State>,
    streams: AtomicU64,
    /// One permit a batch that arrives.
    arrived: Notify,
    /// Wakes whoever waits for the first batch.
    demanded: Notify,
}

#[derive(Debug)]
struct State {
    observer: Arc<dyn PoolObserver>,
    unanswered: BTreeMap<BatchNumber, Unanswered>,
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
pub(super) struct Counts {
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

impl BatchQueue {
    /// An empty queue that reports to `observer`.
    pub fn new(observer: Arc<dyn PoolObserver>) -> Self {
        Self {
            state: Mutex::new(State::new(observer)),
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
        let mut state = self.lock();
        let mut back = 0;
        for number in numbers {
            let Some(batch) = state.unanswered.get_mut(&number) else {
                continue;
            };
            batch.holders.retain(|holder| holder.stream != stream);
            if batch.holders.is_empty() && state.waiting.insert(number) {
                back += 1;
            }
        }
        state.counts.requeued += back as u64;
        state.observer.batches_requeued(back);
        drop(state);
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
            if !self.lock().unanswered.is_empty() {
                return;
            }
            demanded.await;
        }
    }

    /// Fails every batch without an answer, and each that comes, until [`BatchQueue::resume`].
    pub fn give_up(&self, error: &PoolError) {
        let mut state = self.lock();
        state.gave_up = Some(error.clone());
        state.waiting.clear();
        let unanswered = std::mem::take(&mut state.unanswered);
        drop(state);
        for batch in unanswered.into_values() {
            let _ = batch.reply.send(Err(error.clone()));
        }
    }

    /// Takes batches again.
    pub fn resume(&self) {
        self.lock().gave_up = None;
    }

    /// For how long the oldest batch has waited in vain: no answer came since, to any batch.
    pub fn stalled_for(&self) -> Duration {
        self.lock().stalled_for(Instant::now())
    }

    /// What happened so far, and what is under way.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let held = |batch: &&Unanswered| !batch.holders.is_empty();
        let in_flight = state.unanswered.values().filter(held).count();
        Counts {
            in_flight,
            waiting: state.unanswered.len() - in_flight,
            ..state.counts
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(observer: Arc<dyn PoolObserver>) -> Self {
        Self {
            observer,
            unanswered: BTreeMap::new(),
            waiting: BTreeSet::new(),
            next_number: 0,
            round_trip: RoundTrip::default(),
            last_answer: None,
            gave_up: None,
            counts: Counts::default(),
        }
    }

    fn submit(
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
        self.unanswered.insert(number, batch);
        self.waiting.insert(number);
        answer
    }

    fn assign(&mut self, stream: StreamNumber, now: Instant) -> Option<Assignment> {
        let Self {
            unanswered,
            waiting,
            counts,
            observer,
            ..
        } = self;
        let has = |batch: &Unanswered| batch.holders.iter().any(|holder| holder.stream == stream);
        let number = loop {
            let number = *waiting
                .iter()
                .find(|number| !unanswered.get(number).is_some_and(has))?;
            waiting.remove(&number);
            match unanswered.get(&number) {
                Some(batch) if !batch.reply.is_closed() => break number,
                // Its ticket was dropped: nobody needs the answer.
                _ => drop(unanswered.remove(&number)),
            }
        };
        let batch = unanswered.get_mut(&number)?;
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

    fn settle(
        &mut self,
        stream: StreamNumber,
        number: BatchNumber,
        now: Instant,
    ) -> Option<oneshot::Sender<Answer>> {
        self.last_answer = Some(now);
        let Some(batch) = self.unanswered.remove(&number) else {
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

    fn hedge(&mut self, now: Instant) -> (Option<Duration>, bool) {
        let overdue_after = self.round_trip.overdue_after();
        let mut held = self.unanswered.iter_mut();
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
        for (number, batch) in &self.unanswered {
            let is_late = matches!(batch.holders[..], [holder]
                if holder.stream == straggler.stream && now - holder.since >= overdue_after);
            if is_late {
                self.waiting.insert(*number);
            }
        }
        (Some(overdue_after), self.waiting.len() > before)
    }

    fn stalled_for(&self, now: Instant) -> Duration {
        match self.unanswered.first_key_value() {
            Some((_, oldest)) => {
                now - self
                    .last_answer
                    .map_or(oldest.submitted, |last| last.max(oldest.submitted))
            }
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests;
