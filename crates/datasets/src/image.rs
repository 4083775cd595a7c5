//! Changes to a whole u8 image on its way to a network: to gray, to another size, to its middle.
//!
//! Bit by bit those of Pillow 12 and torchvision, so that an image is the same in Python and here.
//! (Pillow 13 sometimes scales columns before rows, which changes single pixels by 1.)

mod resample;

use crate::{render::brightness, view::round_half_even};

/// A u8 image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// [channels, height, width], row-major.
    pub pixels: Vec<u8>,
    /// [channels, height, width], each 1 or more.
    pub shape: [usize; 3],
}

impl Image {
    /// An image from pixels whose channels stand side by side, as files have them: `interleaved` is
    /// [height, width, channels] for a `shape` of [channels, height, width].
    pub fn from_interleaved(interleaved: &[u8], shape: [usize; 3]) -> Self {
        let [channels, ..] = shape;
        let plane = |channel| interleaved.iter().skip(channel).step_by(channels);
        Self {
            pixels: (0..channels).flat_map(plane).copied().collect(),
            shape,
        }
    }

    /// Brightness after ITU-R 601-2, rounded as by Pillow's `convert("L")`: red, green and blue become
    /// one channel. An image with another number of channels stays as it is.
    #[must_use]
    pub fn to_gray(self) -> Self {
        let [3, height, width] = self.shape else {
            return self;
        };
        let (red, rest) = self.pixels.split_at(height * width);
        let (green, blue) = rest.split_at(height * width);
        let pixel = |((red, green), blue): ((&u8, &u8), &u8)| brightness([*red, *green, *blue]);
        Self {
            pixels: red.iter().zip(green).zip(blue).map(pixel).collect(),
            shape: [1, height, width],
        }
    }

    /// The gray image as red, green and blue; an image with several channels stays as it is.
    #[must_use]
    pub fn to_rgb(self) -> Self {
        let [1, height, width] = self.shape else {
            return self;
        };
        Self {
            pixels: self.pixels.repeat(3),
            shape: [3, height, width],
        }
    }

    /// Scaled to `height` × `width`: bilinear with antialiasing, Pillow's `resize(.., BILINEAR)`.
    #[must_use]
    pub fn resize(self, height: usize, width: usize) -> Self {
        let [channels, from_height, from_width] = self.shape;
        let mut pixels = self.pixels;
        if width != from_width {
            pixels = resample::rows(&pixels, from_width, width);
        }
        if height != from_height {
            pixels = resample::columns(&pixels, [channels, from_height, width], height);
        }
        Self {
            pixels,
            shape: [channels, height, width],
        }
    }

    /// The middle `height` × `width` pixels, as torchvision's `CenterCrop` places them; the image is
    /// at least as large.
    #[must_use]
    pub fn crop_center(self, height: usize, width: usize) -> Self {
        let [channels, from_height, from_width] = self.shape;
        let top = round_half_even(from_height - height);
        let left = round_half_even(from_width - width);
        let rows = self.pixels.chunks_exact(from_width).enumerate();
        let kept = rows.filter(|(row, _)| (top..top + height).contains(&(row % from_height)));
        Self {
            pixels: kept
                .flat_map(|(_, row)| row[left..left + width].iter().copied())
                .collect(),
            shape: [channels, height, width],
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
