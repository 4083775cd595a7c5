//! The newest latencies of a version.

use std::time::Duration;

use crate::config::LATENCIES;

/// The number of a version's answers during a trial, and the latencies of the newest ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    count: u64,
    /// A ring: once it is full, the oldest is replaced.
    newest: Vec<Duration>,
}

impl Latencies {
    pub(super) fn record(&mut self, latency: Duration) {
        if self.count < LATENCIES {
            self.newest.push(latency);
        } else {
            // Does not truncate: LATENCIES is small.
            self.newest[(self.count % LATENCIES) as usize] = latency;
        }
        self.count += 1;
    }

    /// Answers, also those whose latencies were replaced.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The median of the newest latencies; the upper one of two.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted = self.newest.clone();
        let middle = sorted.len() / 2;
        if sorted.is_empty() {
            return None;
        }
        Some(*sorted.select_nth_unstable(middle).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_the_newest_latencies() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.median(), None);
        for millis in [9, 1, 5] {
            latencies.record(Duration::from_millis(millis));
        }
        assert_eq!(latencies.median(), Some(Duration::from_millis(5)));
        for _ in 0..LATENCIES {
            latencies.record(Duration::from_millis(2));
        }
        assert_eq!(latencies.median(), Some(Duration::from_millis(2)));
        assert_eq!(latencies.newest.len() as u64, LATENCIES);
        assert_eq!(latencies.count(), LATENCIES + 3);
        assert!(
            latencies
                .newest
                .iter()
                .all(|one| *one == Duration::from_millis(2))
        );
    }
}
