//! Which sample comes when.

use rand::seq::SliceRandom;

use crate::random::{Purpose, RandomStreams};

/// The order of one epoch: every sample once, in batches.
#[derive(Debug, Clone)]
pub struct EpochSampler {
    order: Vec<u32>,
    batch_size: usize,
}

impl EpochSampler {
    /// Shuffles `samples` by (`seed`, `phase`, `epoch`).
    ///
    /// # Panics
    /// When `batch_size` is 0 or `samples` exceeds `u32`.
    pub fn new(samples: usize, batch_size: usize, seed: u64, phase: u64, epoch: u64) -> Self {
        assert!(batch_size > 0, "a batch holds at least one sample");
        let samples = u32::try_from(samples).expect("fewer than 2^32 samples fit in memory");
        let mut order: Vec<u32> = (0..samples).collect();
        let streams = RandomStreams::new(seed, Purpose::Shuffle, phase, epoch);
        order.shuffle(&mut streams.at(0));
        Self { order, batch_size }
    }

    /// Batches an epoch; the last may be smaller.
    pub fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch_size)
    }

    /// Sample indices of batch `position`; none after the last batch.
    pub fn batch(&self, position: usize) -> &[u32] {
        let mut batches = self.order.chunks(self.batch_size);
        batches.nth(position).unwrap_or_default()
    }

    /// Sample indices, one slice a batch.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.order.chunks(self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_sample_once_in_an_order_of_its_own() {
        let epoch = |number| EpochSampler::new(10, 4, 1, 0, number);
        assert_eq!(epoch(0).batches(), 3);
        let flat = |sampler: &EpochSampler| sampler.iter().flatten().copied().collect::<Vec<_>>();
        let mut first = flat(&epoch(0));
        assert_ne!(first, flat(&epoch(1)));
        assert_eq!(first, flat(&epoch(0)));
        let by_position: Vec<_> = (0..4).flat_map(|it| epoch(0).batch(it).to_vec()).collect();
        assert_eq!(by_position, first);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }
}
