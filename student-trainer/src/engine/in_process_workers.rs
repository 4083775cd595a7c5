//! Workers that are threads of a test, in place of processes.

use std::sync::{Condvar, Mutex};

use tch::Tensor;
use torch_distributed::{LostWorker, Workers};

/// Where the threads meet.
#[derive(Debug)]
pub struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What each worker gave in this round.
    given: Vec<Option<Vec<u8>>>,
    /// Number of workers that have taken what all gave.
    taken: usize,
}

/// One of the threads.
#[derive(Debug)]
pub struct InProcessWorker<'m> {
    meeting: &'m Meeting,
    rank: usize,
    count: usize,
}

impl Meeting {
    pub fn of(count: usize) -> Self {
        Self {
            state: Mutex::new(State {
                given: vec![None; count],
                taken: 0,
            }),
            changed: Condvar::new(),
        }
    }

    pub fn workers(&self) -> Vec<InProcessWorker<'_>> {
        let count = self.state.lock().unwrap().given.len();
        let worker = |rank| InProcessWorker {
            meeting: self,
            rank,
            count,
        };
        (0..count).map(worker).collect()
    }

    fn exchange(&self, rank: usize, own: Vec<u8>) -> Vec<Vec<u8>> {
        let mut state = self.state.lock().unwrap();
        // The others may still take what was given in the round before.
        while state.given[rank].is_some() {
            state = self.changed.wait(state).unwrap();
        }
        state.given[rank] = Some(own);
        self.changed.notify_all();
        while state.given.iter().any(Option::is_none) {
            state = self.changed.wait(state).unwrap();
        }
        let all = state.given.iter().flatten().cloned().collect();
        state.taken += 1;
        if state.taken == state.given.len() {
            state.taken = 0;
            state.given.fill(None);
            self.changed.notify_all();
        }
        all
    }
}

impl Workers for InProcessWorker<'_> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn gather(&self, own: &Tensor, all: &mut Tensor) -> Result<(), LostWorker> {
        let own: Vec<f32> = Vec::try_from(own.reshape([-1])).unwrap();
        let bytes = own.iter().flat_map(|number| number.to_le_bytes());
        let bytes = self.meeting.exchange(self.rank, bytes.collect()).concat();
        let (numbers, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        let numbers = numbers.iter().copied().map(f32::from_le_bytes);
        let numbers: Vec<f32> = numbers.collect();
        let values = Tensor::from_slice(&numbers).view_as(all);
        all.copy_(&values);
        Ok(())
    }

    fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, LostWorker> {
        Ok(self.meeting.exchange(self.rank, own.to_vec()))
    }

    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, LostWorker> {
        Ok(self.meeting.exchange(self.rank, own).swap_remove(0))
    }
}
