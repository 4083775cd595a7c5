//! The share of a recording's shards that one of several workers records.

use std::{fmt, num::NonZeroU32};

/// One of several workers that record together. Shards are numbered view by view from 0; worker i of n records
/// the numbers i, i + n, i + 2n, …
///
/// So shares differ by at most one shard, the views are complete one after the other, and further views do not
/// move a shard to another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    index: u32,
    of: NonZeroU32,
}

/// The index of a worker that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no worker {index} of {of}: workers are numbered from 0 to {}", .of.get() - 1)]
pub struct NoSuchWorker {
    index: u32,
    of: NonZeroU32,
}

impl Worker {
    /// The only worker, which records every shard.
    pub const ALONE: Self = Self {
        index: 0,
        of: NonZeroU32::MIN,
    };

    /// Worker number `index`, from 0, of `of` workers.
    ///
    /// # Errors
    /// [`NoSuchWorker`] if `index` is not below `of`.
    pub fn new(index: u32, of: NonZeroU32) -> Result<Self, NoSuchWorker> {
        if index >= of.get() {
            return Err(NoSuchWorker { index, of });
        }
        Ok(Self { index, of })
    }

    /// Whether it is the only worker.
    pub fn is_alone(self) -> bool {
        self == Self::ALONE
    }

    /// Whether it records the shard with this number.
    pub fn records(self, shard: u64) -> bool {
        shard % u64::from(self.of.get()) == u64::from(self.index)
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} of {}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use test_support::damage::cases;

    use super::*;

    fn workers(of: u32) -> Vec<Worker> {
        let of = NonZeroU32::new(of).unwrap();
        let worker = |index| Worker::new(index, of).unwrap();
        (0..of.get()).map(worker).collect()
    }

    #[test]
    fn a_worker_beyond_the_last_is_refused_by_its_index() {
        let three = NonZeroU32::new(3).unwrap();
        let error = Worker::new(3, three).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no worker 3 of 3: workers are numbered from 0 to 2"
        );
        assert_eq!(Worker::new(2, three).unwrap().to_string(), "worker 2 of 3");
        assert!(!Worker::new(0, three).unwrap().is_alone());
        assert!(Worker::new(0, NonZeroU32::MIN).unwrap().is_alone());
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn exactly_one_worker_records_a_shard(of in 1u32..200, shard in any::<u64>()) {
            let recording = workers(of).into_iter().filter(|worker| worker.records(shard));
            prop_assert_eq!(recording.count(), 1);
            prop_assert!(Worker::ALONE.records(shard));
        }

        #[test]
        fn shares_differ_by_at_most_one_shard(of in 1u32..50, shards in 0u64..500) {
            let share = |worker: Worker| (0..shards).filter(|shard| worker.records(*shard)).count();
            let shares: Vec<_> = workers(of).into_iter().map(share).collect();
            prop_assert_eq!(shares.iter().sum::<usize>() as u64, shards);
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
