//! RandAugment.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::OutOfRange;
use crate::operations::{AffineMap, Operation};

/// torchvision's `RandAugment` (Cubuk et al. 2020) with 31 magnitude bins: operations that are drawn from fourteen, all
/// with the same magnitude. Geometric ones are bilinear.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    /// Number of operations, 1 to 14; the same one may come twice.
    #[serde(default = "RandAugment::default_num_ops")]
    pub num_ops: usize,
    /// Strength of all operations, 0 to 30.
    #[serde(default = "RandAugment::default_magnitude")]
    pub magnitude: usize,
}

/// An operation before its sign is drawn.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

const KINDS: [Kind; 14] = [
    Kind::Identity,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
    Kind::Rotate,
    Kind::Brightness,
    Kind::Color,
    Kind::Contrast,
    Kind::Sharpness,
    Kind::Posterize,
    Kind::Solarize,
    Kind::AutoContrast,
    Kind::Equalize,
];

/// The largest magnitude.
const LARGEST: usize = 30;

impl RandAugment {
    /// torchvision's default.
    pub const fn default_num_ops() -> usize {
        2
    }

    /// torchvision's default.
    pub const fn default_magnitude() -> usize {
        9
    }

    pub(super) fn check(self) -> Result<(), OutOfRange> {
        let Self { num_ops, magnitude } = self;
        let fits = (1..=KINDS.len()).contains(&num_ops);
        let number = num_ops.to_string();
        OutOfRange::unless(fits, "rand_augment.num_ops", number, "must be from 1 to 14")?;
        let fits = magnitude <= LARGEST;
        let magnitude = magnitude.to_string();
        OutOfRange::unless(
            fits,
            "rand_augment.magnitude",
            magnitude,
            "must be from 0 to 30",
        )
    }

    /// Draws the changes to a student's picture of `size` = [height, width].
    pub(super) fn draw(self, generator: &mut impl Rng, size: [usize; 2]) -> Vec<Operation> {
        (0..self.num_ops)
            .filter_map(|_| {
                let kind = KINDS[generator.random_range(0..KINDS.len() as u32) as usize];
                self.operation(kind, generator, size)
            })
            .collect()
    }

    fn operation(
        self,
        kind: Kind,
        generator: &mut impl Rng,
        size: [usize; 2],
    ) -> Option<Operation> {
        let strength = self.magnitude as f64 / LARGEST as f64;
        // A share of `largest`, with a random sign.
        let mut signed = |largest: f64| {
            let value = strength * largest;
            if generator.random_bool(0.5) {
                -value
            } else {
                value
            }
        };
        let [height, width] = size.map(|side| side as f64);
        // Whole pixels, as in torchvision.
        let mut shift = |side: f64| signed(150.0 / 331.0 * side).trunc();
        let affine = Operation::Affine;
        Some(match kind {
            Kind::Identity => return None,
            Kind::TranslateX => affine(AffineMap::rotation(0.0, [shift(width), 0.0], size)),
            Kind::TranslateY => affine(AffineMap::rotation(0.0, [0.0, shift(height)], size)),
            Kind::ShearX => affine(AffineMap::shear(signed(0.3), 0.0, size)),
            Kind::ShearY => affine(AffineMap::shear(0.0, signed(0.3), size)),
            Kind::Rotate => affine(AffineMap::rotation(signed(30.0), [0.0; 2], size)),
            Kind::Brightness => Operation::Brightness(1.0 + signed(0.9) as f32),
            Kind::Color => Operation::Saturation(1.0 + signed(0.9) as f32),
            Kind::Contrast => Operation::Contrast(1.0 + signed(0.9) as f32),
            Kind::Sharpness => Operation::Sharpness(1.0 + signed(0.9) as f32),
            Kind::Posterize => Operation::Posterize(8 - (strength * 4.0).round_ties_even() as u32),
            Kind::Solarize => Operation::Solarize(255.0 * (1.0 - strength)),
            Kind::AutoContrast => Operation::AutoContrast,
            Kind::Equalize => Operation::Equalize,
        })
    }
}
