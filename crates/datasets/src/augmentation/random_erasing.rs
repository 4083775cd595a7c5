//! Random erasing.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{OutOfRange, is_range};
use crate::{
    operations::{Erasing, Fill, Operation},
    region::Region,
};

/// torchvision's `RandomErasing` (Zhong et al. 2020), on pixels before their normalization: covers a box of random area,
/// aspect ratio and position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability, 0 to 1.
    #[serde(default = "RandomErasing::default_p")]
    pub p: f64,
    /// Smallest and largest share of the picture's area, within 0 (exclusive) and 1.
    #[serde(default = "RandomErasing::default_scale")]
    pub scale: [f64; 2],
    /// Smallest and largest height divided by width, above 0.
    #[serde(default = "RandomErasing::default_ratio")]
    pub ratio: [f64; 2],
    /// What covers the box.
    #[serde(default)]
    pub value: ErasedValue,
}

/// What covers an erased box.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasedValue {
    /// Black pixels.
    #[default]
    Black,
    /// A uniform random value for each channel of each pixel of the student's input.
    Noise,
}

impl RandomErasing {
    /// torchvision's default.
    pub const fn default_p() -> f64 {
        0.5
    }

    /// torchvision's default.
    pub const fn default_scale() -> [f64; 2] {
        [0.02, 0.33]
    }

    /// torchvision's default.
    pub const fn default_ratio() -> [f64; 2] {
        [0.3, 3.3]
    }

    pub(super) fn check(self) -> Result<(), OutOfRange> {
        let Self {
            p, scale, ratio, ..
        } = self;
        let fits = (0.0..=1.0).contains(&p);
        OutOfRange::unless(
            fits,
            "random_erasing.p",
            p.to_string(),
            "must be from 0 to 1",
        )?;
        let fits = is_range(scale) && scale[1] <= 1.0;
        let allowed = "must be [low, high] with 0 < low <= high <= 1";
        OutOfRange::unless(fits, "random_erasing.scale", format!("{scale:?}"), allowed)?;
        let allowed = "must be [low, high] with 0 < low <= high";
        let fits = is_range(ratio);
        OutOfRange::unless(fits, "random_erasing.ratio", format!("{ratio:?}"), allowed)
    }

    /// Draws the box in a student's picture of `size` = [height, width]: torchvision's `RandomErasing.get_params`, ten
    /// tries, then none.
    pub(super) fn draw(self, generator: &mut impl Rng, size: [usize; 2]) -> Option<Operation> {
        const TRIES: usize = 10;
        if !generator.random_bool(self.p) {
            return None;
        }
        let [height, width] = size;
        let [low, high] = self.ratio.map(f64::ln);
        for _ in 0..TRIES {
            let share = generator.random_range(self.scale[0]..=self.scale[1]);
            let area = (height * width) as f64 * share;
            let ratio = generator.random_range(low..=high).exp();
            let rows = (area * ratio).sqrt().round_ties_even() as usize;
            let columns = (area / ratio).sqrt().round_ties_even() as usize;
            if rows < height && columns < width {
                let top = generator.random_range(0..=height - rows);
                let left = generator.random_range(0..=width - columns);
                let region = Region::of_pixels(top..top + rows, left..left + columns, size);
                let fill = self.fill(generator, [rows, columns]);
                return Some(Operation::Erase(Erasing { region, fill }));
            }
        }
        None
    }

    fn fill(self, generator: &mut impl Rng, size: [usize; 2]) -> Fill {
        match self.value {
            ErasedValue::Black => Fill::Black,
            ErasedValue::Noise => {
                let mut values = vec![0; 3 * size[0] * size[1]];
                generator.fill_bytes(&mut values);
                Fill::Noise { values, size }
            }
        }
    }
}
