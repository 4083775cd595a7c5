//! Converts an image of any size to the model's input, as the manifest specifies.

use artifacts::manifest::{ImageInput, Preprocessing, Resize};
use datasets::{Image, Normalization};

use crate::config::ImagesConfig;

/// Converts the image to the model's channels and size.
///
/// # Errors
/// A message if the image is too small, or too long and narrow.
pub(super) fn fit(
    image: Image,
    input: ImageInput<'_>,
    limits: &ImagesConfig,
) -> Result<Image, String> {
    let [channels, height, width] = input.shape;
    let image = match (channels, input.preprocessing.grayscale) {
        (1, _) => image.to_gray(),
        (3, true) => image.to_gray().to_rgb(),
        (3, false) => image.to_rgb(),
        _ => return Err(format!("the model takes images of {channels} channels")),
    };
    let [_, from_height, from_width] = image.shape;
    let size = Size {
        height: from_height,
        width: from_width,
    };
    let target = Size { height, width };
    let scaled = match input.preprocessing.resize {
        Resize::Cover => size.cover(target),
        Resize::ShorterSide(length) => size.with_shorter_side(length),
        Resize::Stretch => target,
        Resize::None => size,
    };
    // Between its two passes, resizing may need an image as long as the file and as wide as the result.
    let largest = scaled.height.max(from_height) as u64 * scaled.width.max(from_width) as u64;
    if largest > limits.max_pixels {
        return Err(format!(
            "{from_width}x{from_height} pixels: the image is too long and narrow to be resized"
        ));
    }
    if scaled.height < height || scaled.width < width {
        return Err(format!(
            "{from_width}x{from_height} pixels: the image is smaller than the model's {width}x{height}"
        ));
    }
    Ok(image
        .resize(scaled.height, scaled.width)
        .crop_center(height, width))
}

/// Normalizes the image as in training and appends its values to `input`.
pub(super) fn normalize(image: &Image, preprocessing: &Preprocessing, input: &mut Vec<f32>) {
    let [_, height, width] = image.shape;
    let normalization = Normalization {
        mean: preprocessing.mean.clone(),
        std: preprocessing.std.clone(),
    };
    normalization.apply(&image.pixels, height * width, input);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    height: usize,
    width: usize,
}

impl Size {
    /// The smallest size with the same proportions that covers `target`.
    fn cover(self, target: Self) -> Self {
        if target.height * self.width >= target.width * self.height {
            self.with_height(target.height)
        } else {
            self.with_width(target.width)
        }
    }

    /// The size of torchvision's `Resize(length)`.
    fn with_shorter_side(self, length: usize) -> Self {
        if self.height <= self.width {
            self.with_height(length)
        } else {
            self.with_width(length)
        }
    }

    fn with_height(self, height: usize) -> Self {
        let width = height.saturating_mul(self.width) / self.height;
        Self { height, width }
    }

    fn with_width(self, width: usize) -> Self {
        let height = width.saturating_mul(self.height) / self.width;
        Self { height, width }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_are_kept_and_the_target_is_covered() {
        let size = |height, width| Size { height, width };
        for (from, target, expected) in [
            (size(28, 28), size(28, 28), size(28, 28)),
            (size(100, 200), size(28, 28), size(28, 56)),
            (size(200, 100), size(28, 28), size(56, 28)),
            (size(10, 10), size(20, 40), size(40, 40)),
            (size(10, 40), size(20, 40), size(20, 80)),
            (size(10, 15), size(20, 40), size(26, 40)),
        ] {
            let found = from.cover(target);
            assert_eq!(found, expected, "{from:?} {target:?}");
            assert!(found.height >= target.height && found.width >= target.width);
        }
        assert_eq!(size(333, 500).with_shorter_side(256), size(256, 384));
        assert_eq!(size(500, 333).with_shorter_side(256), size(384, 256));
    }
}
