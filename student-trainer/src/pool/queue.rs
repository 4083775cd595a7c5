//! Batches that have no answer yet: who has them, and who may take them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::soft_targets::SoftTargets;
use tokio::sync::{Notify, oneshot};

use super::{PoolError, round_trip::RoundTrip};
use crate::metrics::{self, BatchInFlight};

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
#[derive(Debug, Default)]
pub(super) struct BatchQueue {
    state: Mutex<State>,
    streams: AtomicU64,
    /// One permit a batch that arrives.
    arrived: Notify,
    /// Wakes whoever waits for the first batch.
    demanded: Notify,
}

#[derive(Debug, Default)]
struct State {
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
    _counted: BatchInFlight,
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

impl BatchQueue {
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
        metrics::batches_requeued(back);
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
            _counted: BatchInFlight::count(),
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
            metrics::batch_hedged();
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
            metrics::answer_dropped();
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
mod tests {
    use common::soft_targets::{Encoder, Encoding};

    use super::*;

    type Tickets = Vec<oneshot::Receiver<Answer>>;

    fn submit(queue: &BatchQueue, count: usize) -> Tickets {
        let submit = |_| queue.submit(Bytes::new(), [0; 4]);
        (0..count).map(submit).collect()
    }

    fn targets(value: f32) -> SoftTargets {
        Encoder::default()
            .encode(Encoding::F32, &[value], 1)
            .unwrap()
    }

    async fn pull(queue: &BatchQueue, stream: StreamNumber, count: usize) -> Vec<BatchNumber> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(queue.pull(stream).await.number);
        }
        numbers
    }

    fn has_nothing_for(queue: &BatchQueue, stream: StreamNumber) -> bool {
        queue.lock().assign(stream, Instant::now()).is_none()
    }

    #[tokio::test]
    async fn what_comes_back_goes_first() {
        let queue = BatchQueue::default();
        let [lost, other] = [queue.open_stream(), queue.open_stream()];
        let _tickets = submit(&queue, 4);
        let taken = pull(&queue, lost, 2).await;
        assert_eq!(queue.counts().in_flight, 2);
        assert_eq!(queue.take_back(lost, taken.into_iter()), 2);
        let counts = queue.counts();
        assert_eq!((counts.requeued, counts.waiting), (2, 4));
        assert_eq!(pull(&queue, other, 4).await, [0, 1, 2, 3].map(BatchNumber));
    }

    #[tokio::test]
    async fn a_batch_nobody_waits_for_is_left_out() {
        let queue = BatchQueue::default();
        let stream = queue.open_stream();
        let mut tickets = submit(&queue, 2);
        drop(tickets.remove(0));
        assert_eq!(pull(&queue, stream, 1).await, [BatchNumber(1)]);
        assert!(has_nothing_for(&queue, stream));
    }

    #[tokio::test]
    async fn each_batch_wakes_one_who_waits() {
        let queue = std::sync::Arc::new(BatchQueue::default());
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let queue = std::sync::Arc::clone(&queue);
                tokio::spawn(async move { queue.pull(queue.open_stream()).await.number })
            })
            .collect();
        tokio::task::yield_now().await;
        let _tickets = submit(&queue, 2);
        let mut numbers = Vec::new();
        for task in waiting {
            numbers.push(task.await.unwrap());
        }
        numbers.sort();
        assert_eq!(numbers, [0, 1].map(BatchNumber));
    }

    /// What happens at times that a test chooses.
    struct Scene {
        state: State,
        now: Instant,
        tickets: Tickets,
    }

    const STREAMS: [StreamNumber; 3] = [StreamNumber(0), StreamNumber(1), StreamNumber(2)];

    impl Scene {
        fn new(batches: usize) -> Self {
            let (mut state, now) = (State::default(), Instant::now());
            let tickets = (0..batches).map(|_| state.submit(Bytes::new(), [0; 4], now));
            Self {
                tickets: tickets.collect(),
                state,
                now,
            }
        }

        fn take(&mut self, stream: StreamNumber) -> Option<u64> {
            let assignment = self.state.assign(stream, self.now);
            assignment.map(|assignment| assignment.number.0)
        }

        fn settle(&mut self, stream: StreamNumber, number: u64, value: f32) {
            let reply = self.state.settle(stream, BatchNumber(number), self.now);
            if let Some(reply) = reply {
                reply.send(Ok(targets(value))).unwrap();
            }
        }

        /// Lets the time pass after which the head of the line is overdue, and looks.
        fn hedge_late(&mut self) {
            let (again, offered) = self.state.hedge(self.now);
            assert!(!offered, "hedged too early");
            self.now += again.unwrap();
            self.state.hedge(self.now);
        }
    }

    #[test]
    fn a_straggler_at_the_head_is_hedged_and_the_first_answer_wins() {
        let [slow, quick, idle] = STREAMS;
        let mut scene = Scene::new(4);
        assert_eq!([scene.take(slow), scene.take(slow)], [Some(0), Some(1)]);
        for number in [2, 3] {
            assert_eq!(scene.take(quick), Some(number));
            scene.settle(quick, number, 1.0);
        }
        scene.hedge_late();
        assert_eq!(scene.take(slow), None, "a teacher hedges itself");
        assert_eq!([scene.take(quick), scene.take(quick)], [Some(0), Some(1)]);
        scene.state.hedge(scene.now);
        assert_eq!(scene.take(idle), None, "a batch goes to three teachers");
        scene.settle(quick, 0, 1.0);
        scene.settle(slow, 0, 2.0);
        scene.settle(slow, 1, 2.0);
        scene.settle(quick, 1, 1.0);
        for (ticket, value) in scene.tickets.iter_mut().zip([1.0, 2.0, 1.0, 1.0]) {
            assert_eq!(ticket.try_recv().unwrap(), Ok(targets(value)));
        }
        let counts = scene.state.counts;
        assert_eq!((counts.hedged, counts.dropped, counts.answered), (2, 2, 4));
    }

    #[test]
    fn other_stragglers_wait_for_their_turn() {
        let [head, later, idle] = STREAMS;
        let mut scene = Scene::new(2);
        assert_eq!([scene.take(head), scene.take(later)], [Some(0), Some(1)]);
        scene.hedge_late();
        assert_eq!([scene.take(idle), scene.take(idle)], [Some(0), None]);
        scene.settle(idle, 0, 1.0);
        let (_, offered) = scene.state.hedge(scene.now);
        assert!(offered, "its turn has come");
        assert_eq!(scene.take(idle), Some(1));
    }

    #[tokio::test]
    async fn a_hedged_batch_comes_back_only_when_both_are_lost() {
        let queue = BatchQueue::default();
        let [first, second] = [queue.open_stream(), queue.open_stream()];
        let _tickets = submit(&queue, 1);
        let number = pull(&queue, first, 1).await[0];
        let late = Instant::now() + RoundTrip::default().overdue_after();
        assert!(queue.lock().hedge(late).1);
        pull(&queue, second, 1).await;
        let back = |stream| queue.take_back(stream, [number].into_iter());
        assert_eq!((back(first), back(second)), (0, 1));
        assert_eq!(queue.counts().requeued, 1);
    }

    #[test]
    fn stalled_is_the_time_without_an_answer() {
        let second = Duration::from_secs(1);
        let mut scene = Scene::new(0);
        assert_eq!(scene.state.stalled_for(scene.now + second), Duration::ZERO);
        scene = Scene::new(2);
        assert_eq!(scene.state.stalled_for(scene.now + second), second);
        assert_eq!(
            [scene.take(STREAMS[0]), scene.take(STREAMS[0])],
            [Some(0), Some(1)]
        );
        scene.now += second;
        scene.settle(STREAMS[0], 1, 1.0);
        assert_eq!(scene.state.stalled_for(scene.now), Duration::ZERO);
        assert_eq!(scene.state.stalled_for(scene.now + second), second);
    }

    #[tokio::test]
    async fn giving_up_answers_every_ticket_until_resumed() {
        let queue = BatchQueue::default();
        let stream = queue.open_stream();
        let mut tickets = submit(&queue, 3);
        let held = pull(&queue, stream, 1).await;
        queue.give_up(&PoolError::Closed);
        tickets.extend(submit(&queue, 1));
        for ticket in tickets {
            assert_eq!(ticket.await.unwrap(), Err(PoolError::Closed));
        }
        queue.settle(stream, held[0], Ok(targets(1.0)));
        queue.resume();
        let _tickets = submit(&queue, 1);
        assert_eq!(pull(&queue, stream, 1).await, [BatchNumber(3)]);
    }
}
