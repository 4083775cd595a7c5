//! Converts samples to the input of a network.

use serde::{Deserialize, Serialize};

use crate::{Sample, SampleError, SampleKind, Source, Values, read_plain};

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
    /// Leaves every value of rows of `values` values as it is.
    pub fn identity(values: usize) -> Self {
        Self {
            mean: vec![0.0; values],
            std: vec![1.0; values],
        }
    }

    /// Mean and standard deviation (of the population) of each value of the rows of `source`, computed in f64. A
    /// value that is the same in all rows has the deviation 1.
    ///
    /// # Errors
    /// A sample that cannot be read.
    ///
    /// # Panics
    /// If the samples are no rows, or there are none.
    pub fn of_rows(source: &dyn Source) -> Result<Self, SampleError> {
        let SampleKind::Row { values } = source.kind() else {
            panic!("the samples are rows");
        };
        assert!(!source.is_empty());
        let count = source.len() as f64;
        let mut mean = vec![0.0_f64; values];
        for_each_row(source, |row| {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        })?;
        mean.iter_mut().for_each(|sum| *sum /= count);
        // In a second pass: a difference of large sums of squares would lose the digits of small deviations.
        let mut columns = vec![Column::default(); values];
        for_each_row(source, |row| {
            for ((column, value), mean) in columns.iter_mut().zip(row).zip(&mean) {
                column.add(*value, *mean);
            }
        })?;
        Ok(Self {
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
            std: columns.iter().map(|column| column.std(count)).collect(),
        })
    }

    /// Mean and standard deviation of at most `most` samples of `source`, spread over the whole source, at an input
    /// of `shape`: [channels, height, width] or [values]. Rounded to four decimals.
    ///
    /// # Errors
    /// The first sample that cannot be read.
    ///
    /// # Panics
    /// If the source is empty, or `shape` does not fit it: see [`fits`](crate::fits).
    pub fn estimate(
        source: &dyn Source,
        shape: &[usize],
        most: usize,
    ) -> Result<Self, SampleError> {
        let parameters = shape[0];
        let plane: usize = shape[1..].iter().product();
        let (mut sum, mut squares) = (vec![0.0_f64; parameters], vec![0.0_f64; parameters]);
        let samples = source.len().min(most);
        for position in 0..samples {
            let sample = (position * source.len() / samples) as u32;
            let values: Vec<f64> = match read_plain(source, &[sample], shape)? {
                Values::Uint8(pixels) => pixels
                    .iter()
                    .map(|pixel| f64::from(*pixel) / 255.0)
                    .collect(),
                Values::Fp32(row) => row.iter().map(|value| f64::from(*value)).collect(),
            };
            for (parameter, values) in values.chunks_exact(plane).enumerate() {
                sum[parameter] += values.iter().sum::<f64>();
                squares[parameter] += values.iter().map(|value| value * value).sum::<f64>();
            }
        }
        let count = (samples * plane) as f64;
        let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
        let std = squares.iter().zip(&mean).map(|(squares, mean)| {
            let variance = (squares / count - mean * mean).max(0.0);
            // A constant value carries nothing; any scale is right for it.
            if variance > 1e-12 {
                variance.sqrt()
            } else {
                1.0
            }
        });
        let rounded = |value: f64| (value * 1e4).round() as f32 / 1e4;
        Ok(Self {
            std: std.map(|std| (rounded(std)).max(1e-4)).collect(),
            mean: mean.into_iter().map(rounded).collect(),
        })
    }

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

/// The spread of one value over the rows.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    first: Option<f32>,
    varies: bool,
    /// Sum of the squared differences from the mean.
    squares: f64,
}

impl Column {
    fn add(&mut self, value: f32, mean: f64) {
        self.varies |= *self.first.get_or_insert(value) != value;
        self.squares += (f64::from(value) - mean).powi(2);
    }

    fn std(&self, count: f64) -> f32 {
        let std = (self.squares / count).sqrt() as f32;
        // The sums of a constant value are not exact, and f32 holds no deviation below 1e-38.
        if self.varies && std.is_normal() {
            std
        } else {
            1.0
        }
    }
}

fn for_each_row(source: &dyn Source, mut take: impl FnMut(&[f32])) -> Result<(), SampleError> {
    for sample in 0..source.len() as u32 {
        match source.read(sample)? {
            Sample::Row(row) => take(&row),
            Sample::Image(_) => unreachable!("a source of rows gives rows"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InMemoryImages, InMemoryRows};

    #[test]
    fn rows_are_standardized_as_by_scikit_learn() {
        let rows = [
            [1e6, 0.25, 3.0],
            [1e6 + 1.0, 0.25, -1.5],
            [1e6 + 2.0, 0.25, 0.1],
            [1e6 + 5.0, 0.25, 4.0],
        ]
        .concat();
        let source = InMemoryRows::new(3, Vec::new(), rows, vec![None; 4]);
        let found = Normalization::of_rows(&source).unwrap();
        // sklearn.preprocessing.StandardScaler().fit(rows), mean_ and scale_, scikit-learn 1.9.1
        let mean = [1_000_002.0, 0.25, 1.4];
        let std = [1.870_828_7, 1.0, 2.203_406_5];
        for (found, expected) in found.mean.iter().zip(mean).chain(found.std.iter().zip(std)) {
            assert!(
                (found - expected).abs() <= 1e-6 * expected,
                "{found} {expected}"
            );
        }
        // Many equal values, whose mean is not exact.
        let source = InMemoryRows::new(1, Vec::new(), vec![0.1; 1000], vec![None; 1000]);
        let constant = Normalization::of_rows(&source).unwrap();
        assert_eq!((constant.mean, constant.std), (vec![0.1], vec![1.0]));
    }

    #[test]
    fn mean_and_deviation_are_estimated_from_samples_of_the_whole_source() {
        let names = vec!["a".to_owned()];
        let pixels = vec![0, 51, 255, 255, 0, 0, 102, 153, 255, 255, 0, 0];
        let images = InMemoryImages::new([3, 1, 2], names.clone(), pixels, vec![Some(0); 2]);
        // numpy: (numpy.array([0, 51, 102, 153]) / 255).mean(), .std(); the other channels are constant.
        let found = Normalization::estimate(&images, &[3, 1, 2], 10).unwrap();
        assert_eq!(found.mean, [0.3, 1.0, 0.0]);
        assert_eq!(found.std, [0.2236, 1.0, 1.0]);
        let rows = InMemoryRows::new(1, names, vec![1.0, 9.0, 3.0, 9.0], vec![Some(0); 4]);
        let found = Normalization::estimate(&rows, &[1], 2).unwrap();
        assert_eq!((found.mean, found.std), (vec![2.0], vec![1.0]));
    }

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
