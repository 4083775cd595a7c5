//! Changes to the pixels of a rendered picture.
//!
//! Pictures are rendered at the size of a network's input first ([`crate::Renderer`]), as in torchvision's recipes, so
//! an operation costs the same for a photograph as for a thumbnail. Places and lengths are shares of the picture's
//! sides, and factors have no unit: at the sizes of teacher and student, an operation makes the same picture. The
//! bits are those of Pillow, whose functions torchvision calls for PIL images.

mod affine;
mod color;
mod erasing;
mod tone;

pub(crate) use affine::AffineMap;
pub(crate) use erasing::{Erasing, Fill};

/// One change. Enhancements are `degenerate + factor * (value - degenerate)`, as by Pillow's `ImageEnhance`: a factor
/// of 1 changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// Moves pixels, bilinear; pixels from outside the picture are black.
    Affine(AffineMap),
    /// `ImageEnhance.Brightness`: away from black.
    Brightness(f32),
    /// `ImageEnhance.Contrast`: away from the mean brightness.
    Contrast(f32),
    /// `ImageEnhance.Color`: away from the gray picture. Leaves gray pictures as they are.
    Saturation(f32),
    /// torchvision's `adjust_hue`, by a share of the color circle, -0.5 to 0.5. Leaves gray pictures as they are.
    Hue(f64),
    /// `ImageEnhance.Sharpness`: away from the picture smoothed over 3×3 of its own pixels.
    Sharpness(f32),
    /// `ImageOps.posterize`: keeps this number of upper bits, 1 to 8.
    Posterize(u32),
    /// `ImageOps.solarize`: inverts values from this one on.
    Solarize(f64),
    /// `ImageOps.autocontrast`: stretches each channel to 0 to 255.
    AutoContrast,
    /// `ImageOps.equalize`: gives each channel a uniform histogram.
    Equalize,
    /// Covers a box.
    Erase(Erasing),
}

impl Operation {
    /// Changes `pixels`, u8 of `shape` = [channels, height, width] with 1 or 3 channels. `scratch` is a buffer.
    pub(crate) fn apply(&self, pixels: &mut [u8], shape: [usize; 3], scratch: &mut Vec<u8>) {
        let [_, height, width] = shape;
        let plane = height * width;
        match self {
            Self::Affine(map) => {
                copy(pixels, scratch);
                map.warp(scratch, pixels, [height, width]);
            }
            Self::Brightness(factor) => tone::replace(pixels, |value| blend(0, value, *factor)),
            Self::Contrast(factor) => {
                let mean = tone::mean(pixels, shape);
                tone::replace(pixels, |value| blend(mean, value, *factor));
            }
            Self::Saturation(factor) => color::saturate(pixels, shape, *factor),
            Self::Hue(turn) => color::turn_hue(pixels, shape, *turn),
            Self::Sharpness(factor) => {
                copy(pixels, scratch);
                let planes = scratch.chunks_exact(plane);
                for (from, to) in planes.zip(pixels.chunks_exact_mut(plane)) {
                    tone::sharpen(from, to, [height, width], *factor);
                }
            }
            Self::Posterize(bits) => {
                let kept = !(0xff_u8.checked_shr(*bits).unwrap_or(0));
                tone::replace(pixels, |value| value & kept);
            }
            Self::Solarize(threshold) => {
                let below = |value: u8| f64::from(value) < *threshold;
                tone::replace(
                    pixels,
                    |value| if below(value) { value } else { 255 - value },
                );
            }
            Self::AutoContrast => pixels.chunks_exact_mut(plane).for_each(tone::stretch),
            Self::Equalize => pixels.chunks_exact_mut(plane).for_each(tone::equalize),
            Self::Erase(erasing) => erasing.apply(pixels, shape),
        }
    }
}

fn copy(pixels: &[u8], scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(pixels);
}

/// Pillow's `Image.blend`: f32, clipped, cut off.
fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    let (degenerate, value) = (f32::from(degenerate), f32::from(value));
    (degenerate + factor * (value - degenerate)) as u8
}

#[cfg(test)]
mod tests;
