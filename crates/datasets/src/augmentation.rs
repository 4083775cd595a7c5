//! Random changes to a training image.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Pad-and-crop and horizontal flip, as torchvision's `RandomCrop(size, padding=pad)` and
/// `RandomHorizontalFlip(0.5)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Zero pixels added on every side before a crop to the old size; 0 turns cropping off.
    pub pad: usize,
    /// Whether half of the images are mirrored.
    pub horizontal_flip: bool,
}

impl Augmentation {
    /// Writes an augmented copy of `image` ([channels, height, width] of `shape`) to `out`, which
    /// has the same length.
    pub fn apply(self, image: &[u8], shape: [usize; 3], generator: &mut impl Rng, out: &mut [u8]) {
        let [_, height, width] = shape;
        let (down, right) = match self.pad {
            0 => (0, 0),
            pad => (
                generator.random_range(0..=2 * pad) as isize - pad as isize,
                generator.random_range(0..=2 * pad) as isize - pad as isize,
            ),
        };
        let mirror = self.horizontal_flip && generator.random_bool(0.5);
        let planes = image.chunks_exact(height * width);
        for (from, to) in planes.zip(out.chunks_exact_mut(height * width)) {
            for (row, line) in to.chunks_exact_mut(width).enumerate() {
                match row.checked_add_signed(down).filter(|row| *row < height) {
                    Some(row) => shift(&from[row * width..(row + 1) * width], right, line),
                    None => line.fill(0),
                }
                if mirror {
                    line.reverse();
                }
            }
        }
    }
}

/// Copies `from[i + by]` to `to[i]`, zero where there is none.
fn shift(from: &[u8], by: isize, to: &mut [u8]) {
    let distance = by.unsigned_abs().min(from.len());
    let kept = from.len() - distance;
    if by >= 0 {
        to[..kept].copy_from_slice(&from[distance..]);
        to[kept..].fill(0);
    } else {
        to[distance..].copy_from_slice(&from[..kept]);
        to[..distance].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::random::{Purpose, RandomStreams};

    const SHAPE: [usize; 3] = [2, 3, 4];

    fn image() -> Vec<u8> {
        (1..=24).collect()
    }

    /// The definition, pixel by pixel.
    fn crop(image: &[u8], down: isize, right: isize, mirror: bool) -> Vec<u8> {
        let [channels, height, width] = SHAPE.map(|dimension| dimension as isize);
        let mut out = Vec::new();
        for channel in 0..channels {
            for row in 0..height {
                for column in 0..width {
                    let column = if mirror { width - 1 - column } else { column };
                    let (row, column) = (row + down, column + right);
                    let inside = (0..height).contains(&row) && (0..width).contains(&column);
                    let at = (channel * height + row) * width + column;
                    out.push(if inside { image[at as usize] } else { 0 });
                }
            }
        }
        out
    }

    #[test]
    fn gives_every_crop_and_flip_and_nothing_else() {
        let mut allowed = HashSet::new();
        for down in -1..=1 {
            for right in -1..=1 {
                for mirror in [false, true] {
                    allowed.insert(crop(&image(), down, right, mirror));
                }
            }
        }
        let augmentation = Augmentation {
            pad: 1,
            horizontal_flip: true,
        };
        let streams = RandomStreams::new(7, Purpose::Augmentation, 0, 0);
        let seen: HashSet<Vec<u8>> = (0..500)
            .map(|index| {
                let mut out = vec![9; 24];
                augmentation.apply(&image(), SHAPE, &mut streams.at(index), &mut out);
                out
            })
            .collect();
        assert_eq!(seen, allowed);
    }

    #[test]
    fn none_changes_nothing_and_a_pad_beyond_the_image_is_no_panic() {
        let streams = RandomStreams::new(7, Purpose::Augmentation, 0, 0);
        let mut out = vec![9; 24];
        Augmentation::default().apply(&image(), SHAPE, &mut streams.at(0), &mut out);
        assert_eq!(out, image());
        let wide = Augmentation {
            pad: 50,
            horizontal_flip: false,
        };
        for index in 0..100 {
            wide.apply(&image(), SHAPE, &mut streams.at(index), &mut out);
        }
    }
}
