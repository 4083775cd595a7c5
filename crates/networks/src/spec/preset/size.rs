//! The size dial of a student.

use super::checks::{check_dropout, check_multiplier};
use crate::{Shape, SpecError};

/// The size of a student: multipliers of a family's base network.
///
/// A width multiplies the channels of the base network, which are then rounded to a multiple of 8 but
/// not by more than 10 % downwards (the rule of MobileNet's and EfficientNet's authors). A depth
/// multiplies the number of blocks in each stage, rounded up (Tan and Le 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Multiplier of the channels or features.
    pub width: f64,
    /// Multiplier of the blocks or layers; default 1.
    pub depth: f64,
    /// Dropout before the head, or after each hidden layer of a fully connected network; default 0.
    pub dropout: f64,
}

impl Size {
    pub(crate) const KEYS: &str = "width, depth, dropout";

    pub(super) fn check(&self) -> Result<(), SpecError> {
        check_multiplier("width", self.width)?;
        check_multiplier("depth", self.depth)?;
        check_dropout(self.dropout)
    }

    /// The number of channels for this number in the base network.
    pub(super) fn channels(&self, base: usize) -> usize {
        const DIVISOR: usize = 8;
        let exact = base as f64 * self.width;
        let rounded = (exact + DIVISOR as f64 / 2.0) as usize / DIVISOR * DIVISOR;
        let rounded = rounded.max(DIVISOR);
        if (rounded as f64) < 0.9 * exact {
            rounded + DIVISOR
        } else {
            rounded
        }
    }

    /// The number of blocks for this number in the base network.
    pub(super) fn repeats(&self, base: usize) -> usize {
        (base as f64 * self.depth).ceil() as usize
    }

    /// How often the families `cnn` and `resnet` halve an image before their three stages, so that
    /// these see at least 28 rows and columns: 0 for 28 to 55 pixels, 1 up to 111, 2 up to 223, and 3
    /// for larger images.
    pub fn halvings(input: Shape) -> u32 {
        halvings_that_leave(28, input).min(3)
    }
}

/// How often the shorter side of an image can be halved so that it keeps at least `least` pixels.
pub(super) fn halvings_that_leave(least: usize, input: Shape) -> u32 {
    match input {
        Shape::Image { height, width, .. } => {
            (height.min(width) / least).checked_ilog2().unwrap_or(0)
        }
        Shape::Vector { .. } => 0,
    }
}
