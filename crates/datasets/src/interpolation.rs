//! How images are resized.

use std::{fmt, str::FromStr};

use fast_image_resize::FilterType;
use serde::{Deserialize, Serialize};

/// How an image is resized, with antialiasing when it becomes smaller: Pillow's `Resampling` of the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// A triangle filter.
    #[default]
    Bilinear,
    /// The cubic filter of Keys (1981) with a = -0.5. Values beyond 0 to 255 are clipped after each of two passes, which
    /// Pillow computes in the other order: at extreme edges, values differ by a few levels.
    Bicubic,
}

/// A name of another interpolation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not supported; the interpolations are bilinear and bicubic")]
pub struct UnknownInterpolation {
    /// The name.
    pub name: String,
}

impl Interpolation {
    const ALL: [Self; 2] = [Self::Bilinear, Self::Bicubic];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        }
    }

    pub(crate) fn filter(self) -> FilterType {
        match self {
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
        }
    }
}

impl FromStr for Interpolation {
    type Err = UnknownInterpolation;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| UnknownInterpolation {
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Interpolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolations_have_names_and_others_are_refused_by_name() {
        for interpolation in Interpolation::ALL {
            assert_eq!(interpolation.name().parse(), Ok(interpolation));
        }
        let error = "lanczos".parse::<Interpolation>().unwrap_err();
        assert!(
            error.to_string().contains("\"lanczos\" is not supported"),
            "{error}"
        );
    }
}
