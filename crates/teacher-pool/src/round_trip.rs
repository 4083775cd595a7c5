//! How long an answer takes, and from when on one is overdue.

use std::time::Duration;

/// Nothing is overdue before: the same least time-out as Linux's TCP.
const SHORTEST: Duration = Duration::from_millis(200);

/// Overdue where no answer was seen yet: the first may wait for a teacher to warm up.
const UNKNOWN: Duration = Duration::from_secs(2);

/// Smoothed time from sending a batch to its answer, and how much it varies: the estimator of TCP's
/// retransmission time-out (Jacobson, "Congestion Avoidance and Control", 1988; RFC 6298, section 2).
/// What is late by its measure is sent a second time (Dean and Barroso, "The Tail at Scale", 2013).
#[derive(Debug, Default)]
pub(crate) struct RoundTrip(Option<Estimate>);

#[derive(Debug, Clone, Copy)]
struct Estimate {
    mean: Duration,
    variation: Duration,
}

impl RoundTrip {
    /// Learns from one answer.
    pub fn observe(&mut self, took: Duration) {
        self.0 = Some(match self.0 {
            None => Estimate {
                mean: took,
                variation: took / 2,
            },
            Some(Estimate { mean, variation }) => Estimate {
                mean: (mean * 7 + took) / 8,
                variation: (variation * 3 + mean.abs_diff(took)) / 4,
            },
        });
    }

    /// An answer that has not come after this time is overdue.
    pub fn overdue_after(&self) -> Duration {
        match self.0 {
            Some(Estimate { mean, variation }) => (mean + 4 * variation).max(SHORTEST),
            None => UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answers: impl IntoIterator<Item = u64>) -> Duration {
        let mut round_trip = RoundTrip::default();
        for milliseconds in answers {
            round_trip.observe(Duration::from_millis(milliseconds));
        }
        round_trip.overdue_after()
    }

    #[test]
    fn overdue_follows_mean_and_variation() {
        assert_eq!(after([]), UNKNOWN);
        assert_eq!(after([5; 100]), SHORTEST);
        // RFC 6298: the first sample counts as mean, half of it as variation.
        assert_eq!(after([1000]), Duration::from_millis(3000));
        // Steady answers leave no variation.
        let steady = after([1000; 100]);
        assert!(steady < Duration::from_millis(1001), "{steady:?}");
        let unsteady = after([500, 1500].repeat(50));
        assert!(unsteady > Duration::from_millis(2500), "{unsteady:?}");
    }
}
