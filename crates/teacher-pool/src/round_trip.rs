//! Estimates how long an answer takes, and when one is overdue.

use std::time::Duration;

/// No answer is overdue earlier: the minimum time-out of Linux's TCP.
const MIN_OVERDUE: Duration = Duration::from_millis(200);

/// Used until the first answer, for which a teacher may have to warm up.
const INITIAL_OVERDUE: Duration = Duration::from_secs(2);

/// The smoothed time from sending a batch to its answer, and its variation: the estimator of TCP's retransmission
/// time-out (Jacobson, "Congestion Avoidance and Control", 1988; RFC 6298, section 2). An overdue batch is sent to a
/// second teacher (Dean and Barroso, "The Tail at Scale", 2013).
#[derive(Debug, Default)]
pub(crate) struct RoundTrip(Option<Estimate>);

#[derive(Debug, Clone, Copy)]
struct Estimate {
    mean: Duration,
    variation: Duration,
}

impl RoundTrip {
    /// Updates the estimate with the time of one answer.
    pub fn observe(&mut self, time: Duration) {
        self.0 = Some(match self.0 {
            None => Estimate {
                mean: time,
                variation: time / 2,
            },
            Some(Estimate { mean, variation }) => Estimate {
                mean: (mean * 7 + time) / 8,
                variation: (variation * 3 + mean.abs_diff(time)) / 4,
            },
        });
    }

    /// Returns the time after which an answer is overdue.
    pub fn overdue_after(&self) -> Duration {
        match self.0 {
            Some(Estimate { mean, variation }) => (mean + 4 * variation).max(MIN_OVERDUE),
            None => INITIAL_OVERDUE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overdue_after(answers: impl IntoIterator<Item = u64>) -> Duration {
        let mut round_trip = RoundTrip::default();
        for milliseconds in answers {
            round_trip.observe(Duration::from_millis(milliseconds));
        }
        round_trip.overdue_after()
    }

    #[test]
    fn overdue_follows_mean_and_variation() {
        assert_eq!(overdue_after([]), INITIAL_OVERDUE);
        assert_eq!(overdue_after([5; 100]), MIN_OVERDUE);
        // RFC 6298: the first sample is the mean, half of it the variation.
        assert_eq!(overdue_after([1000]), Duration::from_millis(3000));
        // Equal times leave no variation.
        let steady = overdue_after([1000; 100]);
        assert!(steady < Duration::from_millis(1001), "{steady:?}");
        let unsteady = overdue_after([500, 1500].repeat(50));
        assert!(unsteady > Duration::from_millis(2500), "{unsteady:?}");
    }
}
