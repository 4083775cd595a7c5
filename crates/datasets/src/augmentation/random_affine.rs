//! Random rotation and shift.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::OutOfRange;
use crate::operations::{AffineMap, Operation};

/// torchvision's `RandomAffine`: a rotation about the center and a shift, bilinear, with black outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomAffine {
    /// Largest angle in degrees, either way; 0 to 180.
    #[serde(default)]
    pub degrees: f64,
    /// Largest shift to either side and up or down, as shares of the width and the height of the student's input; 0 or
    /// more, below 1.
    #[serde(default)]
    pub translate: [f64; 2],
}

impl RandomAffine {
    pub(super) fn check(self) -> Result<(), OutOfRange> {
        let Self { degrees, translate } = self;
        let fits = (0.0..=180.0).contains(&degrees);
        let degrees = format!("{degrees}");
        OutOfRange::unless(
            fits,
            "random_affine.degrees",
            degrees,
            "must be from 0 to 180",
        )?;
        let fits = translate.iter().all(|share| (0.0..1.0).contains(share));
        let allowed = "must be [horizontal, vertical], each 0 or more and below 1";
        OutOfRange::unless(
            fits,
            "random_affine.translate",
            format!("{translate:?}"),
            allowed,
        )
    }

    /// Draws the change to a student's picture of `size` = [height, width].
    pub(super) fn draw(self, generator: &mut impl Rng, size: [usize; 2]) -> Operation {
        let mut within = |limit: f64| generator.random_range(-limit..=limit);
        let degrees = within(self.degrees);
        let [height, width] = size.map(|side| side as f64);
        let [right, down] = self.translate;
        // Whole pixels, as in torchvision.
        let shift = [right * width, down * height].map(|limit| within(limit).round_ties_even());
        Operation::Affine(AffineMap::rotation(degrees, shift, size))
    }
}
