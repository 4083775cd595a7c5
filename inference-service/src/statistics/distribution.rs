//! Histograms.

/// A histogram with fixed upper bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Distribution {
    bounds: &'static [f64],
    /// Values in each bucket; the last bucket has no upper bound.
    counts: Box<[u64]>,
    sum: f64,
}

impl Distribution {
    /// An empty histogram with ascending `bounds`.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1].into(),
            sum: 0.0,
        }
    }

    /// Counts `value` `times` times.
    pub(super) fn record(&mut self, value: f64, times: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += times;
        self.sum += value * times as f64;
    }

    /// The bounds, each with the number of values up to it.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.counts.iter().scan(0, |below, count| {
            *below += count;
            Some(*below)
        });
        self.bounds.iter().copied().zip(counts)
    }

    /// Number of values.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the values.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_its_bucket_and_all_above() {
        let mut distribution = Distribution::new(&[1.0, 2.0, 4.0]);
        for (value, times) in [(0.5, 1), (1.0, 2), (3.0, 1), (9.0, 1)] {
            distribution.record(value, times);
        }
        let cumulative: Vec<_> = distribution.cumulative().collect();
        assert_eq!(cumulative, [(1.0, 3), (2.0, 3), (4.0, 4)]);
        assert_eq!((distribution.count(), distribution.sum()), (5, 14.5));
    }
}
