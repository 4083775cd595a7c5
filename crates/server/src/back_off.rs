//! Exponential back-off with jitter.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The pauses between attempts: an endless iterator.
///
/// The upper bound of a pause doubles from pause to pause. Each pause is between half of its bound and
/// the whole, at random, so that the clients of a server that restarts do not all return at once. The
/// random numbers affect timing only; no result depends on them.
#[derive(Debug)]
pub struct BackOff {
    policy: ExponentialBuilder,
    pauses: ExponentialBackoff,
}

impl BackOff {
    /// `first` and `longest` bound the first pause and all later ones.
    pub fn new(first: Duration, longest: Duration) -> Self {
        // `backon` adds to each delay up to its whole.
        let policy = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(first / 2)
            .with_max_delay(longest / 2)
            .without_max_times();
        Self {
            policy,
            pauses: policy.build(),
        }
    }

    /// Sleeps for the next pause.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// Returns the next pause.
    pub fn next_pause(&mut self) -> Duration {
        // Holds: the policy limits neither the number of pauses nor their sum.
        self.pauses.next().expect("the policy has no limit")
    }

    /// Starts again with the first pause, after a success.
    pub fn reset(&mut self) {
        self.pauses = self.policy.build();
    }
}

impl Iterator for BackOff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    #[test]
    fn pauses_grow_to_the_longest_and_start_again() {
        let mut back_off = BackOff::new(FIRST, LONGEST);
        let mut bound = FIRST;
        for _ in 0..100 {
            let pause = back_off.next_pause();
            // `backon` computes in f32.
            let bounds = bound.mul_f64(0.499)..=bound.mul_f64(1.001);
            assert!(bounds.contains(&pause), "{pause:?} of {bound:?}");
            bound = (2 * bound).min(LONGEST);
        }
        back_off.reset();
        assert!(back_off.next_pause() <= FIRST.mul_f64(1.001));
    }

    #[test]
    fn two_clients_do_not_pause_in_step() {
        let pauses = || BackOff::new(FIRST, LONGEST).take(10).collect::<Vec<_>>();
        assert_ne!(pauses(), pauses());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_sleeps() {
        let start = tokio::time::Instant::now();
        BackOff::new(FIRST, LONGEST).pause().await;
        assert!(start.elapsed() >= FIRST.mul_f64(0.499));
    }
}
