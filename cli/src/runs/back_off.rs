//! Pauses between attempts to watch a run again.

use std::time::{Duration, SystemTime};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double, each shortened at random: a trainer that comes back is not to meet all that
/// watch it at once.
#[derive(Debug)]
pub(super) struct BackOff {
    pause: Duration,
    jitter: ChaCha8Rng,
}

impl BackOff {
    pub(super) fn new() -> Self {
        let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            pause: SHORTEST,
            // Timing only: nothing that a run computes depends on it.
            jitter: ChaCha8Rng::seed_from_u64(clock.as_nanos() as u64),
        }
    }

    /// Between half and the whole of a span that doubles each time, up to a longest one.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause.mul_f64(self.jitter.random_range(0.5..1.0));
        self.pause = (2 * self.pause).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_cap_and_are_not_those_of_another() {
        let mut back_off = BackOff::new();
        let pauses: Vec<_> = (0..10).map(|_| back_off.next_pause()).collect();
        let mut whole = SHORTEST;
        for pause in &pauses {
            assert!((whole / 2..=whole).contains(pause), "{pauses:?}");
            whole = (2 * whole).min(LONGEST);
        }
        let at_the_cap = &pauses[5..];
        assert!(
            at_the_cap.iter().any(|pause| pause != &at_the_cap[0]),
            "{pauses:?}"
        );
    }
}
