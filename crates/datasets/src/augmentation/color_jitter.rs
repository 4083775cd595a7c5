//! Random changes of color.

use rand::{Rng, RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::OutOfRange;
use crate::operations::Operation;

/// torchvision's `ColorJitter`: changes in random order. 0 turns a change off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// The factor is from max(0, 1 − this) to 1 + this; 0 or more.
    #[serde(default)]
    pub brightness: f64,
    /// As `brightness`.
    #[serde(default)]
    pub contrast: f64,
    /// As `brightness`; gray pictures stay as they are.
    #[serde(default)]
    pub saturation: f64,
    /// Largest turn of the color circle, either way; 0 to 0.5. Gray pictures stay as they are.
    #[serde(default)]
    pub hue: f64,
}

/// Makes an operation of its strength.
type Change = fn(f64) -> Operation;

impl ColorJitter {
    pub(super) fn check(self) -> Result<(), OutOfRange> {
        for (field, amount) in [
            ("color_jitter.brightness", self.brightness),
            ("color_jitter.contrast", self.contrast),
            ("color_jitter.saturation", self.saturation),
        ] {
            let fits = amount.is_finite() && amount >= 0.0;
            OutOfRange::unless(fits, field, amount.to_string(), "must be 0 or more")?;
        }
        let fits = (0.0..=0.5).contains(&self.hue);
        let hue = self.hue.to_string();
        OutOfRange::unless(fits, "color_jitter.hue", hue, "must be from 0 to 0.5")
    }

    /// Draws the order and the factors.
    pub(super) fn draw(self, generator: &mut impl Rng) -> Vec<Operation> {
        let mut changes: [(f64, Change); 4] = [
            (self.brightness, |factor| {
                Operation::Brightness(factor as f32)
            }),
            (self.contrast, |factor| Operation::Contrast(factor as f32)),
            (self.saturation, |factor| {
                Operation::Saturation(factor as f32)
            }),
            (self.hue, |factor| Operation::Hue(factor - 1.0)),
        ];
        changes.shuffle(generator);
        changes
            .into_iter()
            .filter(|(amount, _)| *amount > 0.0)
            .map(|(amount, operation)| {
                let lowest = (1.0 - amount).max(0.0);
                operation(generator.random_range(lowest..=1.0 + amount))
            })
            .collect()
    }
}
