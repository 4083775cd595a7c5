//! Scales and rounded values. A value is `(quantized - zero_point) * scale`, rounded half to even as QuantizeLinear
//! does (<https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html>).

use super::Range;

/// Weights are rounded to -64..=64: two products of these and of u8 fit into 16 bits.
pub const LARGEST_WEIGHT: f64 = 64.0;
/// Biases are rounded to -2³⁰..=2³⁰: they keep away from the limits of int32, so that sums of products fit beside
/// them.
pub const LARGEST_BIAS: f64 = (1 << 30) as f64;

/// How the u8 values of a tensor are read: `(quantized - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActivationScale {
    /// The distance of two neighbouring values, above 0.
    pub scale: f32,
    /// The u8 value that stands for 0.
    pub zero_point: u8,
}

/// The rounded weights and biases of a convolution or linear layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kernel {
    pub(super) weights: Vec<i8>,
    /// One for each output channel.
    pub(super) scales: Vec<f32>,
    /// Their scales are those of the weights times that of the input.
    pub(super) biases: Option<Vec<i32>>,
}

impl ActivationScale {
    /// The 256 values from the smallest to the largest, or to 0 if all have one sign: 0 stays 0, which padding is.
    /// `None` if a bound is not finite.
    pub(super) fn of(range: Range) -> Option<Self> {
        let [min, max] = [range.min.min(0.0), range.max.max(0.0)].map(f64::from);
        let scale = ((max - min) / 255.0) as f32;
        if !scale.is_finite() || range.min.is_nan() || range.max.is_nan() {
            return None;
        }
        // A tensor of zeros, or of values that are too small for f32.
        if scale < f32::MIN_POSITIVE {
            return Some(Self {
                scale: 1.0,
                zero_point: 0,
            });
        }
        let zero_point = (-min / f64::from(scale))
            .round_ties_even()
            .clamp(0.0, 255.0);
        Some(Self {
            scale,
            zero_point: zero_point as u8,
        })
    }
}

impl Kernel {
    /// Rounds the weights of each of `channels` output channels, which stand one after the other, and the biases.
    pub(super) fn of(
        weights: &[f32],
        channels: usize,
        biases: Option<&[f32]>,
        input_scale: f32,
    ) -> Self {
        let input_scale = f64::from(input_scale);
        let bias = |channel: usize| biases.map_or(0.0, |biases| f64::from(biases[channel]));
        let rows = weights.chunks_exact(weights.len() / channels.max(1));
        let scales: Vec<f32> = rows
            .clone()
            .enumerate()
            .map(|(channel, row)| {
                let largest = row
                    .iter()
                    .fold(0.0f32, |largest, weight| largest.max(weight.abs()));
                let of_weights = f64::from(largest) / LARGEST_WEIGHT;
                // A bias that is large beside its weights needs a larger scale to fit.
                let of_bias = bias(channel).abs() / (input_scale * LARGEST_BIAS);
                match of_weights.max(of_bias) as f32 {
                    scale if scale < f32::MIN_POSITIVE => 1.0,
                    scale => scale,
                }
            })
            .collect();
        let round = |value: f64, limit: f64| value.round_ties_even().clamp(-limit, limit);
        let rounded = rows.zip(&scales).flat_map(|(row, scale)| {
            let scale = f64::from(*scale);
            row.iter()
                .map(move |weight| round(f64::from(*weight) / scale, LARGEST_WEIGHT) as i8)
        });
        let weights = rounded.collect();
        let biases = biases.map(|biases| {
            let pairs = biases.iter().zip(&scales);
            let rounded = pairs.map(|(bias, scale)| {
                let steps = f64::from(*bias) / (f64::from(*scale) * input_scale);
                round(steps, LARGEST_BIAS) as i32
            });
            rounded.collect()
        });
        Self {
            weights,
            scales,
            biases,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activation(min: f32, max: f32) -> Option<ActivationScale> {
        ActivationScale::of(Range { min, max })
    }

    #[test]
    fn zero_is_exact_in_every_range() {
        for (min, max, scale, zero_point) in [
            (0.0, 255.0, 1.0, 0),
            // As after a ReLU.
            (0.5, 2.55, 0.01, 0),
            (-127.5, 127.5, 1.0, 128),
            (-255.0, -1.0, 1.0, 255),
            (-1.0, 3.0, 4.0 / 255.0, 64),
            (0.0, 0.0, 1.0, 0),
            (-1e-45, 0.0, 1.0, 0),
        ] {
            let found = activation(min, max).unwrap();
            assert!((found.scale - scale).abs() < 1e-7, "{found:?}");
            assert_eq!(found.zero_point, zero_point, "{min} {max}");
        }
        for (min, max) in [
            (f32::NEG_INFINITY, 1.0),
            (0.0, f32::INFINITY),
            (f32::NAN, 1.0),
            (f32::MIN, f32::NAN),
        ] {
            assert_eq!(activation(min, max), None, "{min} {max}");
        }
    }

    #[test]
    fn each_channel_has_a_scale_of_its_own() {
        let weights = [0.64, -0.32, 0.005, 6.4, -6.4, 0.25];
        let kernel = Kernel::of(&weights, 2, Some(&[1.0, -2.0]), 0.5);
        assert_eq!(kernel.weights, [64, -32, 0, 64, -64, 2]);
        assert_eq!(kernel.scales, [0.01, 0.1]);
        assert_eq!(kernel.biases.unwrap(), [200, -40]);
        assert_eq!(Kernel::of(&weights, 2, None, 0.5).biases, None);
    }

    #[test]
    fn a_bias_that_is_large_beside_its_weights_keeps_its_value() {
        for weight in [0.0, 1e-20, 1e-6] {
            for bias in [0.0, 0.3, -4e9] {
                let kernel = Kernel::of(&[weight, -weight], 1, Some(&[bias]), 0.02);
                let steps = f64::from(kernel.biases.unwrap()[0]);
                let found = steps * f64::from(kernel.scales[0]) * 0.02;
                let allowed = f64::from(bias.abs()) * 1e-6;
                assert!(
                    (found - f64::from(bias)).abs() <= allowed,
                    "{weight} {bias}: {found}"
                );
            }
        }
    }

    #[test]
    fn two_products_fit_into_16_bits() {
        let kernel = Kernel::of(&[1.0, -1.0, 0.3], 1, None, 1.0);
        for weight in kernel.weights {
            assert!((2 * 255 * i32::from(weight)).abs() <= i32::from(i16::MAX));
        }
    }
}
