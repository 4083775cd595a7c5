//! Batches that wait for the compute thread, taken from the streams in turn.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// One trainer's stream, unique within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A first-in-first-out queue per stream; the streams take turns, so that a stream with much
/// waiting does not hold up one with little.
///
/// It holds no more than what the streams may have in flight: the streams see to that.
pub struct FairQueue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// Never an empty queue in here.
    waiting: BTreeMap<StreamId, VecDeque<T>>,
    /// The streams in `waiting`, next one first.
    turns: VecDeque<StreamId>,
    /// Items in `waiting`.
    len: usize,
    closed: bool,
}

impl<T> FairQueue<T> {
    /// An open, empty queue.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: BTreeMap::new(),
                turns: VecDeque::new(),
                len: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Appends to `stream`'s queue.
    ///
    /// # Errors
    /// The item, when the queue is closed.
    pub fn push(&self, stream: StreamId, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        let queue = state.waiting.entry(stream).or_default();
        queue.push_back(item);
        if queue.len() == 1 {
            state.turns.push_back(stream);
        }
        state.len += 1;
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next item; `None` once the queue is closed.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(item) = state.take() {
                return Some(item);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what waits for a stream that is gone; gives how many items.
    pub fn discard(&self, stream: StreamId) -> usize {
        let mut state = self.lock();
        let Some(queue) = state.waiting.remove(&stream) else {
            return 0;
        };
        state.len -= queue.len();
        state.turns.retain(|other| *other != stream);
        queue.len()
    }

    /// Drops everything that waits and takes no more; gives how many items.
    pub fn close(&self) -> usize {
        let mut state = self.lock();
        state.closed = true;
        state.turns.clear();
        state.waiting.clear();
        self.changed.notify_all();
        std::mem::take(&mut state.len)
    }

    /// Number of items that wait.
    pub fn len(&self) -> usize {
        self.lock().len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<T> {
        let stream = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&stream)?;
        let item = queue.pop_front();
        match queue.is_empty() {
            true => drop(self.waiting.remove(&stream)),
            false => self.turns.push_back(stream),
        }
        self.len -= 1;
        item
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);

    fn queue(items: &[(StreamId, &'static str)]) -> FairQueue<&'static str> {
        let queue = FairQueue::new();
        for (stream, item) in items {
            queue.push(*stream, *item).unwrap();
        }
        queue
    }

    fn drain(queue: &FairQueue<&'static str>) -> Vec<&'static str> {
        (0..queue.len()).filter_map(|_| queue.pop()).collect()
    }

    #[test]
    fn streams_take_turns_and_keep_their_own_order() {
        let queue = queue(&[(A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (B, "b2")]);
        assert_eq!(drain(&queue), ["a1", "b1", "a2", "b2", "a3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_stream_that_comes_back_waits_its_turn() {
        let queue = queue(&[(A, "a1"), (B, "b1"), (B, "b2")]);
        assert_eq!(queue.pop(), Some("a1"));
        queue.push(A, "a2").unwrap();
        assert_eq!(drain(&queue), ["b1", "a2", "b2"]);
    }

    #[test]
    fn a_stream_that_is_gone_leaves_nothing() {
        let queue = queue(&[(A, "a1"), (B, "b1"), (A, "a2")]);
        assert_eq!(queue.discard(A), 2);
        assert_eq!(queue.discard(A), 0);
        assert_eq!(drain(&queue), ["b1"]);
    }

    #[test]
    fn closing_wakes_who_waits_and_refuses_what_comes() {
        let queue = Arc::new(queue(&[]));
        let waiting = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.pop()
        });
        assert_eq!(queue.close(), 0);
        assert_eq!(waiting.join().unwrap(), None);
        assert_eq!(queue.push(A, "late"), Err("late"));
    }
}
