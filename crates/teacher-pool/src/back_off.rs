//! Pauses between attempts to reach a teacher.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Exponential back-off with jitter, so that trainers do not come back all at once.
#[derive(Debug)]
pub(crate) struct BackOff {
    next: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl BackOff {
    /// Waits.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Between half and the whole of a span that doubles each time.
    fn next_pause(&mut self) -> Duration {
        // The standard library's hash keys differ from process to process and call to call. Timing
        // only: nothing that a run computes depends on them.
        let random = RandomState::new().hash_one(()) as u32;
        let share = 0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX);
        let pause = self.next.mul_f64(share);
        self.next = (2 * self.next).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_cap_and_start_anew() {
        let mut back_off = BackOff::default();
        let pauses: Vec<_> = (0..10).map(|_| back_off.next_pause()).collect();
        assert!(
            pauses[0] >= SHORTEST / 2 && pauses[0] <= SHORTEST,
            "{pauses:?}"
        );
        assert!(
            pauses[9] >= LONGEST / 2 && pauses[9] <= LONGEST,
            "{pauses:?}"
        );
        back_off.reset();
        assert!(back_off.next_pause() <= SHORTEST);
    }
}
