//! Changes that depend on a pixel's value, on the histogram of the picture, or on the neighbours of a pixel.

use super::blend;
use crate::render::brightness;

/// Replaces every value by `change` of it.
pub(super) fn replace(pixels: &mut [u8], change: impl Fn(u8) -> u8) {
    let table: Vec<u8> = (0..=255).map(change).collect();
    pixels
        .iter_mut()
        .for_each(|value| *value = table[usize::from(*value)]);
}

/// Mean brightness of a picture of `shape` = [channels, height, width], rounded as by Pillow's `ImageEnhance.Contrast`.
pub(super) fn mean(pixels: &[u8], [channels, height, width]: [usize; 3]) -> u8 {
    let plane = height * width;
    let sum: u64 = if channels == 3 {
        let rgb = |pixel: usize| [0, 1, 2].map(|channel| pixels[channel * plane + pixel]);
        (0..plane)
            .map(|pixel| u64::from(brightness(rgb(pixel))))
            .sum()
    } else {
        pixels.iter().map(|value| u64::from(*value)).sum()
    };
    (sum as f64 / plane as f64 + 0.5) as u8
}

/// Stretches the values of `plane` to 0 to 255: Pillow's `ImageOps.autocontrast`.
pub(super) fn stretch(plane: &mut [u8]) {
    let lowest = plane.iter().copied().min().unwrap_or(0);
    let highest = plane.iter().copied().max().unwrap_or(0);
    if lowest < highest {
        let scale = 255.0 / f64::from(highest - lowest);
        let offset = -f64::from(lowest) * scale;
        replace(plane, |value| (f64::from(value) * scale + offset) as u8);
    }
}

/// Gives `plane` a uniform histogram: Pillow's `ImageOps.equalize`.
pub(super) fn equalize(plane: &mut [u8]) {
    let mut histogram = [0_usize; 256];
    plane
        .iter()
        .for_each(|value| histogram[usize::from(*value)] += 1);
    let last = histogram.iter().rev().find(|count| **count > 0);
    let step = last.map_or(0, |last| (plane.len() - last) / 255);
    if step == 0 {
        return;
    }
    let mut before = step / 2;
    let table = histogram.map(|count| {
        let value = before / step;
        before += count;
        value.min(255) as u8
    });
    replace(plane, |value| table[usize::from(value)]);
}

/// Moves the values of the plane `from`, of `size` = [height, width], away from those of the smoothed plane, by
/// `factor`. The border stays, as by Pillow's `ImageFilter.SMOOTH`.
pub(super) fn sharpen(from: &[u8], to: &mut [u8], [height, width]: [usize; 2], factor: f32) {
    for row in 1..height.saturating_sub(1) {
        for column in 1..width.saturating_sub(1) {
            let at = row * width + column;
            let lines = [at - width, at, at + width].map(|middle| &from[middle - 1..=middle + 1]);
            let sum: u32 = lines
                .into_iter()
                .flatten()
                .map(|value| u32::from(*value))
                .sum();
            // The middle weighs 5, the others 1, so the sum of the weights is 13; rounded to nearest.
            let weighted = sum + 4 * u32::from(from[at]);
            let smooth = ((2 * weighted + 13) / 26) as u8;
            to[at] = blend(smooth, from[at], factor);
        }
    }
}
