//! Views: what of a sample one epoch shows.

use rand_chacha::ChaCha8Rng;

use crate::random::{Purpose, RandomStreams};

/// Decides how samples are augmented: the same view gives a sample the same [`Geometry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Every sample as it is, without augmentation.
    Plain,
    /// New for every epoch.
    OfEpoch {
        /// The run's seed.
        seed: u64,
        /// Position of the phase in the run.
        phase: u64,
        /// Position of the epoch in the phase.
        epoch: u64,
    },
    /// One of a set that runs share, whatever their seeds and phases.
    Fixed {
        /// Seed of the set.
        seed: u64,
        /// Position in the set.
        view: u64,
    },
}

/// The part of an image that a view shows, at the resolution of the source.
///
/// Teacher and student show the same part, each at its own size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// First row of the box, in pixels; below 0 where the box exceeds the image.
    pub top: f64,
    /// First column of the box, in pixels; below 0 where the box exceeds the image.
    pub left: f64,
    /// Height of the box in pixels, above 0.
    pub height: f64,
    /// Width of the box in pixels, above 0.
    pub width: f64,
    /// Whether the box is mirrored left to right.
    pub flip: bool,
}

/// The random numbers of one view: two generators per sample.
#[derive(Debug, Clone)]
pub struct ViewStreams(Option<Families>);

#[derive(Debug, Clone)]
struct Families {
    augmentation: RandomStreams,
    mixing: RandomStreams,
}

impl View {
    /// The random numbers of this view.
    pub fn streams(self) -> ViewStreams {
        let (purposes, seed, phase, number) = match self {
            Self::Plain => return ViewStreams(None),
            Self::OfEpoch { seed, phase, epoch } => {
                ([Purpose::Augmentation, Purpose::Mixing], seed, phase, epoch)
            }
            Self::Fixed { seed, view } => {
                ([Purpose::FixedView, Purpose::FixedMixing], seed, 0, view)
            }
        };
        let [augmentation, mixing] =
            purposes.map(|purpose| RandomStreams::new(seed, purpose, phase, number));
        ViewStreams(Some(Families {
            augmentation,
            mixing,
        }))
    }
}

impl ViewStreams {
    /// The generator of the augmentation of `sample`; `None` for [`View::Plain`].
    pub fn of(&self, sample: u32) -> Option<ChaCha8Rng> {
        Some(self.0.as_ref()?.augmentation.at(sample.into()))
    }

    /// The generator that mixes `sample` with another one; `None` for [`View::Plain`].
    pub fn mixing_of(&self, sample: u32) -> Option<ChaCha8Rng> {
        Some(self.0.as_ref()?.mixing.at(sample.into()))
    }
}

impl Geometry {
    /// The largest part in the middle of an image of `size` with the aspect ratio of `target`, both
    /// [height, width]: exactly the pixels that torchvision's `Resize` to the smallest size that covers `target`
    /// and `CenterCrop` show.
    pub fn centered(size: [usize; 2], target: [usize; 2]) -> Self {
        let resized = covering_size(size, target);
        // Of one dimension: first pixel and length of the box.
        let side = |size: usize, resized: usize, target: usize| {
            let scale = size as f64 / resized as f64;
            let offset = round_half_even(resized - target);
            (offset as f64 * scale, target as f64 * scale)
        };
        let (top, height) = side(size[0], resized[0], target[0]);
        let (left, width) = side(size[1], resized[1], target[1]);
        Self {
            top,
            left,
            height,
            width,
            flip: false,
        }
    }
}

/// The smallest size with the aspect ratio of `size` that covers `target`, both [height, width], rounded as by
/// torchvision's `Resize`.
pub fn covering_size([height, width]: [usize; 2], target: [usize; 2]) -> [usize; 2] {
    let [rows, columns] = target;
    // Compares rows / height with columns / width without rounding.
    if rows as u128 * width as u128 >= columns as u128 * height as u128 {
        let scaled = (rows as u128 * width as u128 / height as u128) as usize;
        [rows, scaled.max(columns)]
    } else {
        let scaled = (columns as u128 * height as u128 / width as u128) as usize;
        [scaled.max(rows), columns]
    }
}

/// Half of `difference`, rounded to the even neighbour: Python's `round`.
pub(crate) fn round_half_even(difference: usize) -> usize {
    let half = difference / 2;
    half + usize::from(difference % 2 == 1 && half % 2 == 1)
}
