//! The color behind transparent pixels.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The color that shows through transparent pixels: red, green, blue.
///
/// As text it is `white`, `black`, `gray` (128 in each channel, as in CSS and Pillow's `ImageColor`) or `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ground(pub [u8; 3]);

/// A text that is no color.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no color: give white, black, gray or #rrggbb, for example #ff8000")]
pub struct UnknownGround {
    /// The text.
    pub text: String,
}

const NAMED: [(&str, Ground); 3] = [
    ("white", Ground::WHITE),
    ("black", Ground([0; 3])),
    ("gray", Ground([128; 3])),
];

impl Ground {
    /// The ground of data sets and models that do not name another.
    pub const WHITE: Self = Self([255; 3]);
}

impl Default for Ground {
    fn default() -> Self {
        Self::WHITE
    }
}

impl FromStr for Ground {
    type Err = UnknownGround;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = NAMED.iter().find(|(name, _)| *name == text);
        let color = match named {
            Some((_, ground)) => Some(*ground),
            None => text.strip_prefix('#').and_then(from_hex),
        };
        color.ok_or_else(|| UnknownGround {
            text: text.to_owned(),
        })
    }
}

fn from_hex(digits: &str) -> Option<Ground> {
    let mut channels = [0; 3];
    hex::decode_to_slice(digits, &mut channels).ok()?;
    Some(Ground(channels))
}

impl fmt::Display for Ground {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, ground)| ground == self) {
            Some((name, _)) => formatter.write_str(name),
            None => write!(formatter, "#{}", hex::encode(self.0)),
        }
    }
}

impl TryFrom<String> for Ground {
    type Error = UnknownGround;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Ground> for String {
    fn from(ground: Ground) -> Self {
        ground.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ground_is_a_name_or_hexadecimal_digits() {
        for (text, channels, written) in [
            ("white", [255; 3], "white"),
            ("#FFFFFF", [255; 3], "white"),
            ("black", [0; 3], "black"),
            ("gray", [128; 3], "gray"),
            ("#ff8000", [255, 128, 0], "#ff8000"),
        ] {
            let ground: Ground = text.parse().unwrap();
            assert_eq!(ground, Ground(channels));
            assert_eq!(ground.to_string(), written);
            assert_eq!(written.parse(), Ok(ground));
        }
        for text in [
            "", "#", "#ff80", "#ff80000", "ff8000", "#gg0000", "#é000", "White", "red",
        ] {
            let error = text.parse::<Ground>().unwrap_err().to_string();
            assert!(error.contains("#rrggbb"), "{error}");
        }
    }
}
