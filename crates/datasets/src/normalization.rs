//! From u8 pixels to what a network takes.

use serde::{Deserialize, Serialize};

/// `(x / 255 - mean) / std`, per channel: torchvision's `ToTensor` and `Normalize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// One value a channel.
    pub mean: Vec<f32>,
    /// One value a channel, above 0.
    pub std: Vec<f32>,
}

impl Normalization {
    /// Appends the f32 values of `pixels`, which are u8 [n, channels, height, width] with
    /// `height * width = plane`, to `out`.
    pub fn apply(&self, pixels: &[u8], plane: usize, out: &mut Vec<f32>) {
        let tables: Vec<[f32; 256]> = self
            .mean
            .iter()
            .zip(&self.std)
            .map(|(mean, std)| std::array::from_fn(|x| (x as f32 / 255.0 - mean) / std))
            .collect();
        out.reserve(pixels.len());
        for (position, channel) in pixels.chunks_exact(plane).enumerate() {
            let table = &tables[position % tables.len()];
            out.extend(channel.iter().map(|pixel| table[usize::from(*pixel)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_has_its_own_mean_and_deviation() {
        let normalization = Normalization {
            mean: vec![0.0, 0.5],
            std: vec![1.0, 0.5],
        };
        let mut out = Vec::new();
        normalization.apply(&[0, 255, 0, 255, 51, 102, 51, 102], 2, &mut out);
        let expected = [0.0, 1.0, -1.0, 1.0, 0.2, 0.4, -0.6, -0.2];
        for (value, expected) in out.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{out:?}");
        }
    }
}
