//! The seeds of the draws of sampled soft targets.

use std::ops::Range;

use bytes::Bytes;
use datasets::{
    View,
    random::{Purpose, RandomStreams},
};
use rand::Rng;

use super::Encoding;

/// The seed of each sample's draws, u64 little-endian; empty for encodings that draw nothing.
///
/// The trainer chooses the seeds, as pure functions of the view and of the sample's position in the data set. So
/// the draws of a sample do not depend on the teacher that makes them, nor on the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrawSeeds(Bytes);

impl DrawSeeds {
    /// The seeds of `samples`, positions in the data set, in `view`. [`View::Plain`] has the seeds of seed 0.
    pub fn of(encoding: Encoding, view: View, samples: impl IntoIterator<Item = u32>) -> Self {
        if encoding.seed_bytes() == 0 {
            return Self::default();
        }
        let (purpose, seed, phase, number) = match view {
            View::Plain => (Purpose::DrawSeed, 0, 0, 0),
            View::OfEpoch { seed, phase, epoch } => (Purpose::DrawSeed, seed, phase, epoch),
            View::Fixed { seed, view } => (Purpose::FixedDrawSeed, seed, 0, view),
        };
        let streams = RandomStreams::new(seed, purpose, phase, number);
        let seeds = samples
            .into_iter()
            .flat_map(|sample| streams.at(sample.into()).next_u64().to_le_bytes());
        Self(seeds.collect::<Vec<u8>>().into())
    }

    /// Takes the seeds of a batch of `samples` without a copy. Drops them if `encoding` draws nothing.
    ///
    /// # Errors
    /// A message that says how many seeds are needed.
    pub fn from_wire(bytes: Bytes, encoding: Encoding, samples: usize) -> Result<Self, String> {
        let sample = encoding.seed_bytes();
        if sample == 0 {
            return Ok(Self::default());
        }
        let needed = samples.saturating_mul(sample);
        if bytes.len() == needed {
            return Ok(Self(bytes));
        }
        let found = bytes.len();
        Err(format!(
            "{found} bytes of draw_seeds for {samples} samples as {encoding}, which needs {needed}"
        ))
    }

    /// The seeds as in a batch; shares the bytes.
    pub fn to_wire(&self) -> Bytes {
        self.0.clone()
    }

    /// The seeds of these samples; shares the bytes. None if there are none at all.
    ///
    /// # Panics
    /// If there are fewer samples.
    pub fn slice(&self, samples: Range<usize>) -> Self {
        if self.0.is_empty() {
            return Self::default();
        }
        Self(self.0.slice(samples.start * SIZE..samples.end * SIZE))
    }

    /// Number of samples that have a seed.
    pub fn samples(&self) -> usize {
        self.0.len() / SIZE
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let (seeds, _) = self.0.as_chunks::<SIZE>();
        seeds.iter().copied().map(u64::from_le_bytes)
    }
}

const SIZE: usize = size_of::<u64>();

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(view: View, samples: &[u32]) -> Vec<u64> {
        let encoding = "sampled-3".parse().unwrap();
        let seeds = DrawSeeds::of(encoding, view, samples.iter().copied());
        seeds.iter().collect()
    }

    #[test]
    fn a_seed_depends_on_view_and_sample_alone() {
        let fixed = |seed, view| View::Fixed { seed, view };
        let of_epoch = |seed, phase, epoch| View::OfEpoch { seed, phase, epoch };
        let batch = of(fixed(1, 0), &[4, 7, 9]);
        assert_eq!(of(fixed(1, 0), &[7]), [batch[1]]);
        assert_eq!(of(fixed(1, 0), &[9, 4]), [batch[2], batch[0]]);
        let views = [
            fixed(1, 0),
            fixed(2, 0),
            fixed(1, 1),
            of_epoch(1, 0, 0),
            of_epoch(2, 0, 0),
            of_epoch(1, 1, 0),
            of_epoch(1, 0, 1),
        ];
        let seeds = views.iter().flat_map(|view| of(*view, &[4, 7]));
        assert_eq!(seeds.collect::<HashSet<u64>>().len(), 2 * views.len());
    }

    #[test]
    fn seeds_round_trip_and_are_split_by_sample() {
        let encoding: Encoding = "sampled-3-t2".parse().unwrap();
        let seeds = DrawSeeds::of(encoding, View::Fixed { seed: 1, view: 0 }, 0..5);
        assert_eq!((seeds.samples(), seeds.bytes()), (5, 40));
        assert_eq!(
            DrawSeeds::from_wire(seeds.to_wire(), encoding, 5).as_ref(),
            Ok(&seeds)
        );
        let parts = [seeds.slice(0..2), seeds.slice(2..5)];
        assert!(parts.iter().flat_map(DrawSeeds::iter).eq(seeds.iter()));
        let none = DrawSeeds::of(Encoding::F16, View::Fixed { seed: 1, view: 0 }, 0..5);
        assert_eq!(none, DrawSeeds::default());
        assert_eq!(none.slice(1..3), none);
        // Encodings that draw nothing ignore seeds.
        let ignored = DrawSeeds::from_wire(seeds.to_wire(), Encoding::F32, 5);
        assert_eq!(ignored, Ok(none));
        for (samples, needed) in [
            (4, "needs 32"),
            (6, "needs 48"),
            (usize::MAX, "needs 18446744073709551615"),
        ] {
            let error = DrawSeeds::from_wire(seeds.to_wire(), encoding, samples).unwrap_err();
            assert!(
                error.contains("40 bytes of draw_seeds") && error.contains(needed),
                "{error}"
            );
        }
    }
}
