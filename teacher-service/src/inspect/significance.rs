//! Whether one card is better than another on the same samples.

/// Which samples each of two cards is right on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Paired {
    /// Samples that both were tried on.
    pub(super) samples: usize,
    /// Samples that the first is right on.
    pub(super) before: usize,
    /// Samples that the second is right on.
    pub(super) after: usize,
    /// Samples that only the second is right on.
    pub(super) gained: usize,
    /// Samples that only the first is right on.
    pub(super) lost: usize,
}

/// Largest probability of a difference by chance that still counts as a difference. Some ten cards are tried.
pub(super) const LARGEST_P: f64 = 1e-3;

/// Smallest difference of the accuracies that is worth a hint.
pub(super) const SMALLEST_GAIN: f64 = 0.01;

impl Paired {
    /// Compares two lists of outcomes of the same samples.
    pub(super) fn of(before: &[bool], after: &[bool]) -> Self {
        let mut paired = Self::default();
        for (before, after) in before.iter().zip(after) {
            paired.samples += 1;
            paired.before += usize::from(*before);
            paired.after += usize::from(*after);
            paired.gained += usize::from(*after && !*before);
            paired.lost += usize::from(*before && !*after);
        }
        paired
    }

    /// Share of the samples that the first is right on.
    pub(super) fn accuracy_before(&self) -> f64 {
        self.before as f64 / self.samples.max(1) as f64
    }

    /// Share of the samples that the second is right on.
    pub(super) fn accuracy_after(&self) -> f64 {
        self.after as f64 / self.samples.max(1) as f64
    }

    /// The probability of as many gains among the samples with different outcomes if gain and loss were equally
    /// likely: McNemar's test in its exact, one-sided form (a sign test).
    pub(super) fn p(&self) -> f64 {
        let different = self.gained + self.lost;
        let mut ln_factorials = vec![0.0_f64];
        for number in 1..=different {
            ln_factorials.push(ln_factorials[number - 1] + (number as f64).ln());
        }
        let ln_whole = ln_factorials[different] - different as f64 * std::f64::consts::LN_2;
        let of =
            |gained: usize| ln_whole - ln_factorials[gained] - ln_factorials[different - gained];
        let tail: f64 = (self.gained..=different)
            .map(|gained| of(gained).exp())
            .sum();
        tail.min(1.0)
    }

    /// Whether the second is better by more than chance, and by enough to be worth a hint.
    pub(super) fn is_better(&self) -> bool {
        self.accuracy_after() - self.accuracy_before() >= SMALLEST_GAIN && self.p() < LARGEST_P
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(samples: usize, gained: usize, lost: usize) -> Paired {
        Paired {
            samples,
            before: lost,
            after: gained,
            gained,
            lost,
        }
    }

    #[test]
    fn the_test_is_the_binomial_one_of_scipy() {
        // scipy.stats.binomtest(gained, gained + lost, alternative="greater").pvalue
        for (gained, lost, p) in [
            (0, 0, 1.0),
            (5, 5, 0.623_046_875),
            (9, 1, 0.010_742_187_5),
            (40, 10, 1.193_066_583_837_777e-5),
            (0, 4, 1.0),
        ] {
            let found = paired(100, gained, lost).p();
            assert!(
                (found - p).abs() < 1e-9 * p.max(1e-3),
                "{gained} {lost}: {found}"
            );
        }
    }

    #[test]
    fn a_hint_needs_a_gain_that_is_no_chance_and_not_tiny() {
        assert!(paired(500, 40, 10).is_better());
        assert!(!paired(500, 9, 1).is_better());
        assert!(!paired(5000, 30, 2).is_better());
        assert!(!paired(500, 10, 40).is_better());
        let outcomes = Paired::of(&[true, false, false, true], &[true, true, false, false]);
        let expected = Paired {
            samples: 4,
            before: 2,
            after: 2,
            gained: 1,
            lost: 1,
        };
        assert_eq!(outcomes, expected);
    }
}
