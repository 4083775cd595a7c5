//! Encodings of soft targets, and the bytes that a sample takes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::TailBucket;

/// How a row of logits is encoded. As text, in configurations and file names: `f32`, `f16`,
/// `top-32` (the 32 largest as f16), `top-32-f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// Every class has a value.
    Dense(ValueType),
    /// Only the `k` largest logits of a row have a value; a [`TailBucket`] summarizes the others.
    TopK {
        /// Values per row, 1 or more. If there are at most `k` classes, all are kept.
        k: u32,
        /// Number format of the kept logits.
        values: ValueType,
    },
}

/// Number format of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueType {
    /// IEEE 754 binary32, as the teacher computes them.
    F32,
    /// IEEE 754 binary16, rounded to nearest even: 11 significant bits, at most 65,504.
    F16,
}

/// Bytes of one sample, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleBytes {
    /// Bytes of the kept logits.
    pub logits: usize,
    /// Bytes of the classes that they belong to.
    pub kept_classes: usize,
    /// Bytes of the summary of the other classes.
    pub tail_bucket: usize,
}

/// A text names no encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an encoding of soft targets; write \"f32\", \"f16\", \"top-K\" (the K largest logits as \
     f16) or \"top-K-f32\", with K from 1 to 65536"
)]
pub struct InvalidEncoding(String);

impl Encoding {
    /// All logits, as the teacher computes them.
    pub const F32: Self = Self::Dense(ValueType::F32);
    /// All logits, in half the size.
    pub const F16: Self = Self::Dense(ValueType::F16);
    /// Largest k.
    pub const MAX_K: u32 = 65_536;

    /// Number format of the logits.
    pub fn value_type(self) -> ValueType {
        match self {
            Self::Dense(values) | Self::TopK { values, .. } => values,
        }
    }

    /// Number of values that are kept of a row of `classes`.
    pub fn kept(self, classes: usize) -> usize {
        match self {
            Self::Dense(_) => classes,
            Self::TopK { k, .. } => classes.min(k as usize),
        }
    }

    /// Bytes that a sample of `classes` takes.
    pub fn sample_bytes(self, classes: usize) -> SampleBytes {
        let kept = self.kept(classes);
        let logits = kept * self.value_type().bytes();
        match self {
            Self::Dense(_) => SampleBytes {
                logits,
                kept_classes: 0,
                tail_bucket: 0,
            },
            Self::TopK { .. } => SampleBytes {
                logits,
                kept_classes: kept * if fits_u16(classes) { 2 } else { 4 },
                tail_bucket: if kept < classes { TailBucket::BYTES } else { 0 },
            },
        }
    }
}

/// Whether every class of `classes` is a u16.
pub(super) fn fits_u16(classes: usize) -> bool {
    classes <= 1 << 16
}

impl ValueType {
    /// Size of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl SampleBytes {
    /// Bytes of all parts.
    pub fn total(self) -> usize {
        self.logits + self.kept_classes + self.tail_bucket
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(ValueType::F32) => f.write_str("f32"),
            Self::Dense(ValueType::F16) => f.write_str("f16"),
            Self::TopK { k, values } => match values {
                ValueType::F32 => write!(f, "top-{k}-f32"),
                ValueType::F16 => write!(f, "top-{k}"),
            },
        }
    }
}

impl FromStr for Encoding {
    type Err = InvalidEncoding;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidEncoding(text.to_owned());
        match text {
            "f32" => return Ok(Self::F32),
            "f16" => return Ok(Self::F16),
            _ => {}
        }
        let k_and_type = text.strip_prefix("top-").ok_or_else(invalid)?;
        let (digits, values) = match k_and_type.strip_suffix("-f32") {
            Some(digits) => (digits, ValueType::F32),
            None => (k_and_type, ValueType::F16),
        };
        let k = digits.parse().map_err(|_| invalid())?;
        let plain = !digits.starts_with(['+', '0']);
        if !plain || !(1..=Self::MAX_K).contains(&k) {
            return Err(invalid());
        }
        Ok(Self::TopK { k, values })
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
