//! Random changes to a training image.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::view::Geometry;

/// Random changes to a training image, as torchvision makes them. The default changes nothing.
///
/// The serialized form omits defaults, so an identity that contains it stays the same when a later version
/// adds another change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// `RandomCrop(size, padding=pad)`: black pixels added on every side before a crop to the old size, in
    /// pixels of the student's input; 0 turns cropping off.
    #[serde(default)]
    pub pad: usize,
    /// `RandomHorizontalFlip(0.5)`.
    #[serde(default)]
    pub horizontal_flip: bool,
    /// `RandomResizedCrop`, in place of the center of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<RandomResizedCrop>,
}

/// torchvision's `RandomResizedCrop`: a box of random area, aspect ratio and position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Smallest and largest share of the image's area, within 0 (exclusive) and 1.
    pub scale: [f64; 2],
    /// Smallest and largest width divided by height, above 0.
    #[serde(default = "RandomResizedCrop::default_ratio")]
    pub ratio: [f64; 2],
}

/// A field of [`Augmentation`] that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {value}: {allowed}")]
pub struct OutOfRange {
    /// Dotted path of the field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What it must be.
    pub allowed: String,
}

impl Augmentation {
    /// Draws the part of an image of `size` that a view shows to a student with an input of `target`, both
    /// [height, width].
    pub fn draw(self, generator: &mut impl Rng, size: [usize; 2], target: [usize; 2]) -> Geometry {
        let mut geometry = match self.random_resized_crop {
            Some(crop) => crop.draw(generator, size, target),
            None => Geometry::centered(size, target),
        };
        if self.pad > 0 {
            let mut shift = || generator.random_range(0..=2 * self.pad) as f64 - self.pad as f64;
            let (down, right) = (shift(), shift());
            geometry.top += down * (geometry.height / target[0] as f64);
            geometry.left += right * (geometry.width / target[1] as f64);
        }
        geometry.flip = self.horizontal_flip && generator.random_bool(0.5);
        geometry
    }

    /// Checks the ranges of the fields for a student with an input of `target`, [height, width].
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(self, target: [usize; 2]) -> Result<(), OutOfRange> {
        let [height, width] = target;
        if self.pad > 0 && self.pad >= height.min(width) {
            return Err(OutOfRange {
                field: "pad",
                value: self.pad.to_string(),
                allowed: format!(
                    "must be below the height and width of network.input, {height} and {width}: a crop could show \
                     nothing of the image"
                ),
            });
        }
        let Some(RandomResizedCrop { scale, ratio }) = self.random_resized_crop else {
            return Ok(());
        };
        let ordered = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        if !ordered(scale) || scale[1] > 1.0 {
            return Err(OutOfRange {
                field: "random_resized_crop.scale",
                value: format!("{scale:?}"),
                allowed: "must be [low, high] with 0 < low <= high <= 1".to_owned(),
            });
        }
        if !ordered(ratio) {
            return Err(OutOfRange {
                field: "random_resized_crop.ratio",
                value: format!("{ratio:?}"),
                allowed: "must be [low, high] with 0 < low <= high".to_owned(),
            });
        }
        Ok(())
    }
}

impl RandomResizedCrop {
    /// torchvision's default, 3/4 to 4/3.
    pub const fn default_ratio() -> [f64; 2] {
        [3.0 / 4.0, 4.0 / 3.0]
    }

    /// torchvision's `RandomResizedCrop.get_params`: ten tries, then the center of the image.
    fn draw(self, generator: &mut impl Rng, size: [usize; 2], target: [usize; 2]) -> Geometry {
        const TRIES: usize = 10;
        let [height, width] = size.map(|side| side as f64);
        let [low, high] = self.ratio.map(f64::ln);
        for _ in 0..TRIES {
            let area = height * width * generator.random_range(self.scale[0]..=self.scale[1]);
            let ratio = generator.random_range(low..=high).exp();
            // Whole pixels, as in torchvision.
            let columns = (area * ratio).sqrt().round_ties_even();
            let rows = (area / ratio).sqrt().round_ties_even();
            let fits = (1.0..=width).contains(&columns) && (1.0..=height).contains(&rows);
            if fits {
                let top = generator.random_range(0..=(height - rows) as usize);
                let left = generator.random_range(0..=(width - columns) as usize);
                return Geometry {
                    top: top as f64,
                    left: left as f64,
                    height: rows,
                    width: columns,
                    flip: false,
                };
            }
        }
        Geometry::centered(size, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, RandomStreams};

    fn draws(augmentation: Augmentation, size: [usize; 2]) -> Vec<Geometry> {
        let streams = RandomStreams::new(7, Purpose::Augmentation, 0, 0);
        (0..500)
            .map(|sample| augmentation.draw(&mut streams.at(sample), size, [32, 32]))
            .collect()
    }

    #[test]
    fn nothing_is_drawn_by_default() {
        let centered = Geometry::centered([40, 60], [32, 32]);
        assert!(
            draws(Augmentation::default(), [40, 60])
                .iter()
                .all(|it| *it == centered)
        );
    }

    #[test]
    fn a_pad_counts_pixels_of_the_student() {
        let augmentation = Augmentation {
            pad: 2,
            horizontal_flip: true,
            ..Augmentation::default()
        };
        let mut shifts = std::collections::BTreeSet::new();
        for geometry in draws(augmentation, [64, 64]) {
            assert_eq!([geometry.height, geometry.width], [64.0, 64.0]);
            shifts.insert((geometry.top as i32, geometry.left as i32, geometry.flip));
        }
        // 5 x 5 positions, two pixels of the image apart, each mirrored or not.
        assert_eq!(shifts.len(), 50);
        assert!(
            shifts
                .iter()
                .all(|(top, left, _)| top % 2 == 0 && left.abs() <= 4)
        );
    }

    #[test]
    fn random_boxes_stay_within_the_image_and_their_ranges() {
        let crop = RandomResizedCrop {
            scale: [0.25, 1.0],
            ratio: RandomResizedCrop::default_ratio(),
        };
        let augmentation = Augmentation {
            random_resized_crop: Some(crop),
            ..Augmentation::default()
        };
        let (mut areas, mut distinct) = (Vec::new(), std::collections::BTreeSet::new());
        for geometry in draws(augmentation, [60, 80]) {
            let Geometry {
                top,
                left,
                height,
                width,
                ..
            } = geometry;
            assert!(top >= 0.0 && left >= 0.0 && top + height <= 60.0 && left + width <= 80.0);
            // Rounding to whole pixels moves the ratio a little.
            assert!((0.7..1.4).contains(&(width / height)), "{geometry:?}");
            areas.push(height * width / 4800.0);
            distinct.insert(format!("{geometry:?}"));
        }
        assert!(areas.iter().all(|area| (0.23..=1.0).contains(area)));
        // Uniform in 0.25 to 1, but for the boxes that do not fit.
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        assert!((0.5..0.7).contains(&mean), "{mean}");
        assert!(distinct.len() > 400);
    }

    #[test]
    fn wrong_ranges_are_named() {
        let with = |scale, ratio| Augmentation {
            random_resized_crop: Some(RandomResizedCrop { scale, ratio }),
            ..Augmentation::default()
        };
        let pad = |pad| Augmentation {
            pad,
            ..Augmentation::default()
        };
        for (augmentation, key) in [
            (pad(0), None),
            (pad(27), None),
            (pad(28), Some("pad")),
            (with([0.1, 1.0], [1.0, 1.0]), None),
            (
                with([0.0, 1.0], [1.0, 1.0]),
                Some("random_resized_crop.scale"),
            ),
            (
                with([0.5, 0.4], [1.0, 1.0]),
                Some("random_resized_crop.scale"),
            ),
            (
                with([0.5, 1.1], [1.0, 1.0]),
                Some("random_resized_crop.scale"),
            ),
            (
                with([f64::NAN, 1.0], [1.0, 1.0]),
                Some("random_resized_crop.scale"),
            ),
            (
                with([0.5, 1.0], [0.0, 1.0]),
                Some("random_resized_crop.ratio"),
            ),
            (
                with([0.5, 1.0], [1.0, f64::INFINITY]),
                Some("random_resized_crop.ratio"),
            ),
        ] {
            let found = augmentation.check([28, 30]).err().map(|error| error.field);
            assert_eq!(found, key, "{augmentation:?}");
        }
    }

    #[test]
    fn the_serialized_form_omits_later_additions() {
        let json = serde_json::to_string(&Augmentation::default()).unwrap();
        assert_eq!(json, r#"{"pad":0,"horizontal_flip":false}"#);
    }
}
