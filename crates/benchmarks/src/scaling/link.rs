//! The network link of a machine, by arithmetic.

use serde::{Deserialize, Serialize};

/// A link that has its whole bandwidth in each direction at the same time. Nothing else uses it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Link {
    /// In each direction.
    pub gigabits_per_second: f64,
    /// One way, microseconds.
    pub latency_us: f64,
}

impl Link {
    /// Bytes per second in each direction.
    pub(super) fn bytes_per_second(self) -> f64 {
        self.gigabits_per_second * 1e9 / 8.0
    }

    /// Time until `bytes` have arrived, seconds.
    pub(super) fn seconds(self, bytes: f64) -> f64 {
        self.latency_us / 1e6 + bytes / self.bytes_per_second()
    }

    /// Samples/s of a machine that sends and receives so many bytes for each sample.
    pub(super) fn samples_per_second(self, sent: f64, received: f64) -> f64 {
        self.bytes_per_second() / sent.max(received)
    }

    /// Time in which each of `workers` machines gets the blocks of all others, `block` bytes each, seconds. As Gloo does it:
    /// in a ring, where each of `workers` − 1 rounds passes one block on.
    pub(super) fn all_gather_seconds(self, workers: usize, block: f64) -> f64 {
        workers.saturating_sub(1) as f64 * self.seconds(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link {
        gigabits_per_second: 10.0,
        latency_us: 50.0,
    };

    fn is_near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn ten_gigabits_are_1_250_000_000_bytes() {
        is_near(LINK.bytes_per_second(), 1.25e9);
        // 1 ms for 1.25 MB, and 50 µs.
        is_near(LINK.seconds(1.25e6), 1.05e-3);
    }

    #[test]
    fn the_direction_with_more_bytes_limits_the_samples() {
        // 1.25e9 bytes/s / 1,000 bytes.
        is_near(LINK.samples_per_second(1_000.0, 40.0), 1.25e6);
        is_near(LINK.samples_per_second(4.0, 1_000.0), 1.25e6);
    }

    #[test]
    fn a_ring_has_one_round_less_than_workers() {
        // 3 rounds of 1.05 ms.
        is_near(LINK.all_gather_seconds(4, 1.25e6), 3.15e-3);
        assert_eq!(LINK.all_gather_seconds(1, 1.25e6), 0.0);
    }
}
