//! Random changes to a training image.

mod color_jitter;
mod mixing;
mod rand_augment;
mod random_affine;
mod random_erasing;
mod random_resized_crop;

use std::fmt;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

pub(crate) use self::mixing::Mix;
pub use self::{
    color_jitter::ColorJitter,
    mixing::{CutMix, Mixup},
    rand_augment::RandAugment,
    random_affine::RandomAffine,
    random_erasing::{ErasedValue, RandomErasing},
    random_resized_crop::RandomResizedCrop,
};
use crate::{operations::Operation, view::Geometry};

/// Random changes to a training image, as torchvision and timm make them, in the order of the fields. The default changes
/// nothing.
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
    /// `RandomAffine`: rotation and shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_affine: Option<RandomAffine>,
    /// `RandAugment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
    /// `ColorJitter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    /// `RandomErasing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_erasing: Option<RandomErasing>,
    /// timm's mixup, of each sample with a random other one. With `cutmix`, half of the samples get each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<Mixup>,
    /// timm's CutMix, of each sample with a random other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<CutMix>,
}

/// What a view makes of one image before it is mixed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transform {
    /// The part that it shows.
    pub(crate) geometry: Geometry,
    /// Changes of the rendered part, in order.
    pub(crate) operations: Vec<Operation>,
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
    /// Draws what a view makes of an image of `size` for a student with an input of `target`, both
    /// [height, width].
    pub(crate) fn draw(
        self,
        generator: &mut impl Rng,
        size: [usize; 2],
        target: [usize; 2],
    ) -> Transform {
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
        // Draws of later versions come last: the earlier ones keep their bits.
        let mut operations = Vec::new();
        if let Some(affine) = self.random_affine {
            operations.push(affine.draw(generator, target));
        }
        if let Some(rand_augment) = self.rand_augment {
            operations.extend(rand_augment.draw(generator, target));
        }
        if let Some(jitter) = self.color_jitter {
            operations.extend(jitter.draw(generator));
        }
        if let Some(erasing) = self.random_erasing {
            operations.extend(erasing.draw(generator, target));
        }
        Transform {
            geometry,
            operations,
        }
    }

    /// Whether samples are mixed with other ones.
    pub fn mixes(self) -> bool {
        self.mixup.is_some() || self.cutmix.is_some()
    }

    /// Checks the ranges of the fields for a student with an input of `target`, [height, width].
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(self, target: [usize; 2]) -> Result<(), OutOfRange> {
        let [height, width] = target;
        let fits = self.pad == 0 || self.pad < height.min(width);
        let allowed = format!(
            "must be below the height and width of network.input, {height} and {width}: a crop could show nothing of \
             the image"
        );
        OutOfRange::unless(fits, "pad", self.pad.to_string(), &allowed)?;
        self.random_resized_crop
            .map_or(Ok(()), RandomResizedCrop::check)?;
        self.random_affine.map_or(Ok(()), RandomAffine::check)?;
        self.rand_augment.map_or(Ok(()), RandAugment::check)?;
        self.color_jitter.map_or(Ok(()), ColorJitter::check)?;
        self.random_erasing.map_or(Ok(()), RandomErasing::check)?;
        self.mixup.map_or(Ok(()), Mixup::check)?;
        self.cutmix.map_or(Ok(()), CutMix::check)
    }

    /// Checks the fields for rows of numbers, which can only be mixed. The fields that images alone have had since the
    /// first version are ignored.
    ///
    /// # Errors
    /// The first field that has no meaning for rows, or that is out of range.
    pub fn check_rows(self) -> Result<(), OutOfRange> {
        for (field, is_set) in [
            ("random_affine", self.random_affine.is_some()),
            ("rand_augment", self.rand_augment.is_some()),
            ("color_jitter", self.color_jitter.is_some()),
            ("random_erasing", self.random_erasing.is_some()),
            ("cutmix", self.cutmix.is_some()),
        ] {
            let allowed = "changes images, and network.input is a row of numbers; remove the key";
            OutOfRange::unless(!is_set, field, "{…}".to_owned(), allowed)?;
        }
        self.mixup.map_or(Ok(()), Mixup::check)
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pad,
            horizontal_flip,
            random_resized_crop,
            random_affine,
            rand_augment,
            color_jitter,
            random_erasing,
            mixup,
            cutmix,
        } = self;
        write!(f, "pad {pad}, horizontal_flip {horizontal_flip}")?;
        if let Some(RandomResizedCrop { scale, ratio }) = random_resized_crop {
            write!(f, ", random_resized_crop {scale:?} {ratio:?}")?;
        }
        if let Some(RandomAffine { degrees, translate }) = random_affine {
            write!(f, ", random_affine {degrees} {translate:?}")?;
        }
        if let Some(RandAugment { num_ops, magnitude }) = rand_augment {
            write!(f, ", rand_augment {num_ops} {magnitude}")?;
        }
        if let Some(ColorJitter {
            brightness,
            contrast,
            saturation,
            hue,
        }) = color_jitter
        {
            write!(
                f,
                ", color_jitter {brightness} {contrast} {saturation} {hue}"
            )?;
        }
        if let Some(RandomErasing {
            p,
            scale,
            ratio,
            value,
        }) = random_erasing
        {
            write!(f, ", random_erasing {p} {scale:?} {ratio:?} {value:?}")?;
        }
        if let Some(Mixup { alpha }) = mixup {
            write!(f, ", mixup {alpha}")?;
        }
        if let Some(CutMix { alpha }) = cutmix {
            write!(f, ", cutmix {alpha}")?;
        }
        Ok(())
    }
}

impl OutOfRange {
    fn unless(fits: bool, field: &'static str, value: String, allowed: &str) -> Result<(), Self> {
        if fits {
            return Ok(());
        }
        Err(Self {
            field,
            value,
            allowed: allowed.to_owned(),
        })
    }
}

/// Whether `range` is [low, high] of finite values above 0.
fn is_range([low, high]: [f64; 2]) -> bool {
    low > 0.0 && low <= high && high.is_finite()
}

#[cfg(test)]
mod tests;
