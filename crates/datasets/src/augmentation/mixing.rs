//! Mixup and CutMix.
//!
//! timm mixes a batch with itself. Here a sample's partner is drawn from the whole data set by the sample's own stream:
//! what a view shows then does not depend on the batch, and a recording holds one row of soft targets for each sample
//! and view.

use std::f64::consts::TAU;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{Augmentation, OutOfRange};
use crate::region::Region;

/// Mixup (Zhang et al. 2018), as in timm: pixels and labels are weighted means of two samples, with the weight λ of the
/// sample from Beta(alpha, alpha).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// Above 0; 1 draws λ uniformly, less draws it closer to 0 and 1.
    pub alpha: f64,
}

/// CutMix (Yun et al. 2019), as in timm: a box of the share 1 − λ of the picture's area shows the partner, with λ from
/// Beta(alpha, alpha). The part of the box beyond the picture's border is cut off, and labels weigh as much as the
/// pixels of their sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutMix {
    /// Above 0; 1 draws λ uniformly.
    pub alpha: f64,
}

/// How a view mixes one sample with another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mix {
    /// Position of the other sample.
    pub(crate) partner: u32,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// The weight of the partner, in units of 1 / [`WHOLE`].
    Blend(u32),
    /// The part of the picture that shows the partner.
    Paste(Region),
}

/// Weights are integers, so that pixels and labels have exactly the same ones.
const WHOLE: u32 = 1 << 16;

/// A value of a sample that can be mixed.
pub(crate) trait Blend: Copy {
    /// The mean of `self` and `partner`, whose weight is in units of 1 / [`WHOLE`].
    fn blend(self, partner: Self, weight: u32) -> Self;
}

impl Blend for u8 {
    fn blend(self, partner: Self, weight: u32) -> Self {
        let sum = u32::from(self) * (WHOLE - weight) + u32::from(partner) * weight;
        // Rounded to nearest; the weights add up to WHOLE, so the mean fits a u8.
        ((sum + WHOLE / 2) / WHOLE) as u8
    }
}

impl Blend for f32 {
    fn blend(self, partner: Self, weight: u32) -> Self {
        let weight = weight as f32 / WHOLE as f32;
        self * (1.0 - weight) + partner * weight
    }
}

impl Augmentation {
    /// Draws how a view mixes a sample of a source of `samples` samples, for a student's picture of `size` =
    /// [height, width]; `None` if it mixes none.
    pub(crate) fn draw_mix(
        self,
        generator: &mut impl Rng,
        samples: u32,
        size: [usize; 2],
    ) -> Option<Mix> {
        let cuts = match (self.mixup, self.cutmix) {
            (None, None) => return None,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(_), Some(_)) => generator.random_bool(0.5),
        };
        let partner = generator.random_range(0..samples);
        let how = match (self.mixup, self.cutmix) {
            (_, Some(CutMix { alpha })) if cuts => How::Paste(cut(generator, alpha, size)),
            (Some(Mixup { alpha }), _) => {
                let share = 1.0 - symmetric_beta(generator, alpha);
                How::Blend((share * f64::from(WHOLE)).round() as u32)
            }
            // Holds: one of the two is there.
            _ => return None,
        };
        Some(Mix { partner, how })
    }
}

impl Mix {
    /// Whether the sample keeps all its pixels.
    pub(crate) fn is_empty(&self) -> bool {
        self.partner_weight() == 0.0
    }

    /// Weight of the partner's label, 0 to 1.
    pub(crate) fn partner_weight(&self) -> f32 {
        match self.how {
            How::Blend(weight) => weight as f32 / WHOLE as f32,
            How::Paste(region) => region.area() as f32,
        }
    }

    /// Mixes `partner` into `values`, both of `shape` = [channels, height, width].
    pub(crate) fn apply<T: Blend>(&self, values: &mut [T], partner: &[T], shape: [usize; 3]) {
        let [_, height, width] = shape;
        match self.how {
            How::Blend(weight) => values
                .iter_mut()
                .zip(partner)
                .for_each(|(value, partner)| *value = value.blend(*partner, weight)),
            How::Paste(region) => {
                let [rows, columns] = region.pixels([height, width]);
                let planes = values.chunks_exact_mut(height * width);
                for (to, from) in planes.zip(partner.chunks_exact(height * width)) {
                    for row in rows.clone() {
                        let line = row * width + columns.start..row * width + columns.end;
                        to[line.clone()].copy_from_slice(&from[line]);
                    }
                }
            }
        }
    }
}

/// A box with the aspect ratio of a picture of `size` = [height, width] around a random pixel: timm's `rand_bbox`.
fn cut(generator: &mut impl Rng, alpha: f64, size: [usize; 2]) -> Region {
    let side = (1.0 - symmetric_beta(generator, alpha)).sqrt();
    let [rows, columns] = size.map(|length| {
        let half = (length as f64 * side) as usize / 2;
        let middle = generator.random_range(0..length);
        middle.saturating_sub(half)..(middle + half).min(length)
    });
    Region::of_pixels(rows, columns, size)
}

/// A value from Beta(`alpha`, `alpha`), from Student's t distribution with 2 `alpha` degrees of freedom, drawn in polar
/// coordinates (Bailey 1994): exact for every `alpha` above 0, with two uniform numbers.
fn symmetric_beta(generator: &mut impl Rng, alpha: f64) -> f64 {
    let (radius, angle): (f64, f64) = (generator.random(), generator.random());
    let cosine = (TAU * angle).cos();
    let square = (radius.powf(-1.0 / alpha) - 1.0) * cosine * cosine;
    // The square is 0 to infinity, so the distance is 0 to 1/2.
    let distance = 0.5 / (1.0 + 1.0 / square).sqrt();
    0.5 + distance.copysign(cosine)
}

impl Mixup {
    pub(super) fn check(self) -> Result<(), OutOfRange> {
        check_alpha("mixup.alpha", self.alpha)
    }
}

impl CutMix {
    pub(super) fn check(self) -> Result<(), OutOfRange> {
        check_alpha("cutmix.alpha", self.alpha)
    }
}

fn check_alpha(field: &'static str, alpha: f64) -> Result<(), OutOfRange> {
    let fits = alpha.is_finite() && alpha > 0.0;
    OutOfRange::unless(fits, field, alpha.to_string(), "must be above 0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, RandomStreams};

    const SAMPLES: u32 = 50;
    const SIZE: [usize; 2] = [20, 30];

    fn draws(mixup: Option<f64>, cutmix: Option<f64>) -> Vec<Mix> {
        let augmentation = Augmentation {
            mixup: mixup.map(|alpha| Mixup { alpha }),
            cutmix: cutmix.map(|alpha| CutMix { alpha }),
            ..Augmentation::default()
        };
        let streams = RandomStreams::new(3, Purpose::Mixing, 0, 0);
        let draw = |sample| augmentation.draw_mix(&mut streams.at(sample), SAMPLES, SIZE);
        (0..4000).filter_map(draw).collect()
    }

    #[test]
    fn symmetric_betas_have_the_moments_of_their_distribution() {
        let streams = RandomStreams::new(1, Purpose::Mixing, 0, 0);
        for alpha in [0.02, 0.2, 0.5, 1.0, 3.0, 40.0] {
            let values: Vec<f64> = (0..20_000)
                .map(|index| symmetric_beta(&mut streams.at(index), alpha))
                .collect();
            assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
            let moment = |power: i32| {
                let sum: f64 = values.iter().map(|value| (value - 0.5).powi(power)).sum();
                sum / values.len() as f64
            };
            let variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            // Kurtosis of Beta(a, a): 3 - 6 / (2a + 3).
            let fourth = variance * variance * (3.0 - 6.0 / (2.0 * alpha + 3.0));
            assert!(moment(1).abs() < 0.02 * variance.sqrt(), "{alpha}");
            assert!((moment(2) / variance - 1.0).abs() < 0.04, "{alpha}");
            assert!((moment(4) / fourth - 1.0).abs() < 0.1, "{alpha}");
        }
    }

    #[test]
    fn mixes_are_drawn_as_configured() {
        assert!(draws(None, None).is_empty());
        let blends = |mixes: &[Mix]| {
            let blends = mixes.iter().filter(|mix| matches!(mix.how, How::Blend(_)));
            blends.count()
        };
        let (mixup, cutmix, both) = (
            draws(Some(1.0), None),
            draws(None, Some(1.0)),
            draws(Some(1.0), Some(1.0)),
        );
        assert_eq!([blends(&mixup), blends(&cutmix)], [4000, 0]);
        assert!((1850..2150).contains(&blends(&both)));
        for mixes in [mixup, cutmix, both] {
            let partners: std::collections::BTreeSet<u32> =
                mixes.iter().map(|mix| mix.partner).collect();
            assert!(partners.into_iter().eq(0..SAMPLES));
            let sum: f32 = mixes.iter().map(Mix::partner_weight).sum();
            // CutMix cuts its boxes at the border, so their mean is below 1/2.
            assert!((0.25..0.53).contains(&(sum / 4000.0)));
        }
    }

    #[test]
    fn labels_weigh_as_much_as_pixels() {
        let shape = [3, SIZE[0], SIZE[1]];
        let count = shape.iter().product::<usize>();
        for mix in draws(Some(0.4), Some(0.8)) {
            let mut values = vec![0.0_f32; count];
            mix.apply(&mut values, &vec![1.0; count], shape);
            let share = values.iter().sum::<f32>() / count as f32;
            assert!((share - mix.partner_weight()).abs() < 1e-4, "{mix:?}");
            assert_eq!(mix.is_empty(), values.iter().all(|value| *value == 0.0));
        }
    }

    #[test]
    fn pixels_are_rounded_to_nearest() {
        for (own, partner, weight, expected) in [
            (0, 255, WHOLE, 255),
            (255, 0, 0, 255),
            (255, 255, 12_345, 255),
            (10, 13, WHOLE / 2, 12),
            (0, 1, WHOLE / 2 - 1, 0),
            (200, 100, WHOLE / 4, 175),
        ] {
            assert_eq!(
                u8::blend(own, partner, weight),
                expected,
                "{own} {partner} {weight}"
            );
        }
    }
}
