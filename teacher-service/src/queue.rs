//! A fair queue of batches for the compute thread.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// One trainer's stream, unique within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// One first-in-first-out queue per stream, served round-robin, so that a stream with many batches does not
/// delay the others.
///
/// The credit of the streams limits the number of items.
pub struct FairQueue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The queues that are not empty.
    waiting: BTreeMap<StreamId, VecDeque<T>>,
    /// The streams in `waiting`, in the order in which they are served.
    round_robin: VecDeque<StreamId>,
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
                round_robin: VecDeque::new(),
                len: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Appends to `stream`'s queue.
    ///
    /// # Errors
    /// Returns the item if the queue is closed.
    pub fn push(&self, stream: StreamId, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        let queue = state.waiting.entry(stream).or_default();
        queue.push_back(item);
        if queue.len() == 1 {
            state.round_robin.push_back(stream);
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

    /// Removes the items of a stream that has ended; returns their number.
    pub fn discard(&self, stream: StreamId) -> usize {
        let mut state = self.lock();
        let Some(queue) = state.waiting.remove(&stream) else {
            return 0;
        };
        state.len -= queue.len();
        state.round_robin.retain(|other| *other != stream);
        queue.len()
    }

    /// Removes all items and rejects further ones; returns the number of removed items.
    pub fn close(&self) -> usize {
        let mut state = self.lock();
        state.closed = true;
        state.round_robin.clear();
        state.waiting.clear();
        self.changed.notify_all();
        std::mem::take(&mut state.len)
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.lock().len
    }

    /// Whether the queue has no items.
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
        let stream = self.round_robin.pop_front()?;
        let queue = self.waiting.get_mut(&stream)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&stream);
        } else {
            self.round_robin.push_back(stream);
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
    fn discarding_a_stream_removes_its_items() {
        let queue = queue(&[(A, "a1"), (B, "b1"), (A, "a2")]);
        assert_eq!(queue.discard(A), 2);
        assert_eq!(queue.discard(A), 0);
        assert_eq!(drain(&queue), ["b1"]);
    }

    #[test]
    fn closing_wakes_waiting_threads_and_rejects_items() {
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
