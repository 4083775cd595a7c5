//! Random parts of images.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{OutOfRange, is_range};
use crate::view::Geometry;

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

impl RandomResizedCrop {
    /// torchvision's default, 3/4 to 4/3.
    pub const fn default_ratio() -> [f64; 2] {
        [3.0 / 4.0, 4.0 / 3.0]
    }

    pub(super) fn check(self) -> Result<(), OutOfRange> {
        let Self { scale, ratio } = self;
        let fits = is_range(scale) && scale[1] <= 1.0;
        let allowed = "must be [low, high] with 0 < low <= high <= 1";
        let value = format!("{scale:?}");
        OutOfRange::unless(fits, "random_resized_crop.scale", value, allowed)?;
        let allowed = "must be [low, high] with 0 < low <= high";
        let value = format!("{ratio:?}");
        OutOfRange::unless(is_range(ratio), "random_resized_crop.ratio", value, allowed)
    }

    /// torchvision's `RandomResizedCrop.get_params`: ten tries, then the center of the image.
    pub(super) fn draw(
        self,
        generator: &mut impl Rng,
        size: [usize; 2],
        target: [usize; 2],
    ) -> Geometry {
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
