//! Converts samples to the input of a network.

use serde::{Deserialize, Serialize};

use crate::Values;

/// Images: `(x / 255 - mean) / std` per channel, torchvision's `ToTensor` and `Normalize`. Rows:
/// `(x - mean) / std` per value, scikit-learn's `StandardScaler`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// One value per channel, or per value of a row.
    pub mean: Vec<f32>,
    /// One value per channel, or per value of a row; above 0.
    pub std: Vec<f32>,
}

impl Normalization {
    /// Appends the normalized f32 of `values`, samples of `shape` = [channels, height, width] or [values], to
    /// `out`.
    pub fn apply_to(&self, values: &Values, shape: &[usize], out: &mut Vec<f32>) {
        match values {
            Values::Uint8(pixels) => self.apply(pixels, shape.iter().skip(1).product(), out),
            Values::Fp32(rows) => {
                let parameters = self.mean.iter().zip(&self.std).cycle();
                let normalized = rows.iter().zip(parameters);
                out.extend(normalized.map(|(value, (mean, std))| (value - mean) / std));
            }
        }
    }

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
    #[test]
    fn every_value_of_a_row_has_its_own_mean_and_deviation() {
        let normalization = Normalization {
            mean: vec![1.0, -2.0],
            std: vec![2.0, 0.5],
        };
        let rows = Values::Fp32(vec![3.0, -2.0, 1.0, -1.0]);
        let mut out = vec![9.0];
        normalization.apply_to(&rows, &[2], &mut out);
        assert_eq!(out, [9.0, 1.0, 0.0, 0.0, 2.0]);
    }
}
