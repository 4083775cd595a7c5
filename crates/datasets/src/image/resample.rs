//! Pillow's resampling of u8 images (`src/libImaging/Resample.c`), its rounding included.

/// Weights are integers of this many fractional bits.
const PRECISION: u32 = 22;

/// The pixels that one output pixel is made of, and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Every row of length `from`, scaled to `to`.
pub(super) fn rows(pixels: &[u8], from: usize, to: usize) -> Vec<u8> {
    let windows = windows(from, to);
    let mut scaled = Vec::with_capacity(pixels.len() / from * to);
    for row in pixels.chunks_exact(from) {
        scaled.extend(windows.iter().map(|window| {
            let pixels = row[window.first..].iter().copied();
            weigh(pixels, &window.weights)
        }));
    }
    scaled
}

/// Every column, scaled to height `to`.
pub(super) fn columns(pixels: &[u8], [channels, from, width]: [usize; 3], to: usize) -> Vec<u8> {
    let windows = windows(from, to);
    let mut scaled = Vec::with_capacity(channels * to * width);
    for plane in pixels.chunks_exact(from * width) {
        for window in &windows {
            scaled.extend((0..width).map(|column| {
                let column = plane[window.first * width + column..].iter().step_by(width);
                weigh(column.copied(), &window.weights)
            }));
        }
    }
    scaled
}

fn weigh(pixels: impl Iterator<Item = u8>, weights: &[i32]) -> u8 {
    let half = 1 << (PRECISION - 1);
    let weighted = pixels
        .zip(weights)
        .map(|(pixel, weight)| i32::from(pixel) * weight);
    let sum = weighted.fold(half, |sum: i32, value| sum + value);
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// A triangle as wide as two output pixels, at least two input pixels, around each output pixel.
fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let window = |position: usize| {
        let center = (position as f64 + 0.5) * scale;
        // Casts cut off, as in C; what is below 0 becomes 0.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weights = (first..end).map(|pixel| {
            let distance = (pixel as f64 - center + 0.5) * (1.0 / support);
            (1.0 - distance.abs()).max(0.0)
        });
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (0.5 + weight / sum * f64::from(1 << PRECISION)) as i32;
        Window {
            first,
            weights: weights.iter().map(fixed).collect(),
        }
    };
    (0..to).map(window).collect()
}
