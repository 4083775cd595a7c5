//! Counter-based random numbers: any draw can be made without making the ones before it.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// What a random choice is for; choices for different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Which samples are held out for validation.
    ValidationSplit,
    /// How data without splits is split.
    Partition,
    /// Which samples a part of a data set holds.
    Subset,
    /// The order of samples in an epoch.
    Shuffle,
    /// How a sample is augmented.
    Augmentation,
    /// How a sample is augmented in one of a fixed set of views.
    FixedView,
    /// How a sample is mixed with another.
    Mixing,
    /// How a sample is mixed with another in one of a fixed set of views.
    FixedMixing,
    /// The seed of dropout masks of a step.
    Dropout,
    /// The seed of the classes that a teacher draws for a sample.
    DrawSeed,
    /// The seed of the classes that a teacher draws for a sample in one of a fixed set of views.
    FixedDrawSeed,
    /// The classes that a teacher draws with a seed.
    ClassDraw,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::ValidationSplit => "validation split",
            Self::Partition => "partition",
            Self::Subset => "subset",
            Self::Shuffle => "shuffle",
            Self::Augmentation => "augmentation",
            Self::FixedView => "fixed view",
            Self::Mixing => "mixing",
            Self::FixedMixing => "fixed mixing",
            Self::Dropout => "dropout",
            Self::DrawSeed => "draw seed",
            Self::FixedDrawSeed => "fixed draw seed",
            Self::ClassDraw => "class draw",
        }
    }
}

/// A family of generators, one an index.
#[derive(Debug, Clone)]
pub struct RandomStreams(ChaCha8Rng);

impl RandomStreams {
    /// The family of (`seed`, `purpose`, `phase`, `epoch`).
    pub fn new(seed: u64, purpose: Purpose, phase: u64, epoch: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(purpose.name());
        for word in [seed, phase, epoch] {
            hasher.update(word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(hasher.finalize().into()))
    }

    /// The generator of `index`, for example of a sample: the ChaCha stream of that number.
    pub fn at(&self, index: u64) -> ChaCha8Rng {
        let mut generator = self.0.clone();
        generator.set_stream(index);
        generator
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::Rng;

    use super::*;

    fn first(seed: u64, purpose: Purpose, phase: u64, epoch: u64, index: u64) -> u64 {
        RandomStreams::new(seed, purpose, phase, epoch)
            .at(index)
            .next_u64()
    }

    #[test]
    fn every_coordinate_changes_the_numbers() {
        let draws = [
            first(1, Purpose::Shuffle, 0, 0, 0),
            first(2, Purpose::Shuffle, 0, 0, 0),
            first(1, Purpose::Augmentation, 0, 0, 0),
            first(1, Purpose::Shuffle, 1, 0, 0),
            first(1, Purpose::Shuffle, 0, 1, 0),
            first(1, Purpose::Shuffle, 0, 0, 1),
        ];
        assert_eq!(HashSet::from(draws).len(), draws.len());
        assert_eq!(draws[0], first(1, Purpose::Shuffle, 0, 0, 0));
    }
}
