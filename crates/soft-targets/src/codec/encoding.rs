//! Encodings of soft targets, and the bytes that a sample takes.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::TailBucket;

/// How a row of logits is encoded. As text, in configurations and file names: `f32`, `f16`,
/// `top-32` (the 32 largest as f16), `top-32-f32`, `sampled-50` (50 classes drawn from the probabilities),
/// `sampled-50-t4` (the same at temperature 4).
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
    /// No logits: classes drawn from the probabilities.
    Sampled(Sampling),
}

/// Draws with replacement from softmax(logits / temperature). The share of a class among the draws is an
/// unbiased estimate of its probability. Anshumann et al. 2025, "Sparse Logit Sampling: Accelerating
/// Knowledge Distillation in LLMs" (arXiv 2503.16870), with the teacher's probabilities as the proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sampling {
    /// Draws per row, from 1 to [`MAX_DRAWS`](Self::MAX_DRAWS).
    pub draws: u32,
    /// From 1 to [`MAX_TEMPERATURE`](Self::MAX_TEMPERATURE). A whole number, which text and messages hold
    /// exactly.
    pub temperature: u32,
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
    /// Bytes of the classes that they belong to, or that were drawn.
    pub kept_classes: usize,
    /// Bytes of the summary of the other classes.
    pub tail_bucket: usize,
}

/// A text names no encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an encoding of soft targets; write \"f32\", \"f16\", \"top-K\" (the K largest logits as \
     f16), \"top-K-f32\", \"sampled-N\" (N classes drawn from the probabilities) or \"sampled-N-tT\" (at \
     temperature T), with K from 1 to 65536, N from 1 to 1024 and T from 2 to 100"
)]
pub struct InvalidEncoding(String);

impl Encoding {
    /// All logits, as the teacher computes them.
    pub const F32: Self = Self::Dense(ValueType::F32);
    /// All logits, in half the size.
    pub const F16: Self = Self::Dense(ValueType::F16);
    /// Largest k.
    pub const MAX_K: u32 = 65_536;

    /// Number format of the logits; `None` if there are no logits.
    pub fn value_type(self) -> Option<ValueType> {
        match self {
            Self::Dense(values) | Self::TopK { values, .. } => Some(values),
            Self::Sampled(_) => None,
        }
    }

    /// Number of classes that a row of `classes` keeps, or of its draws.
    pub fn kept(self, classes: usize) -> usize {
        match self {
            Self::Dense(_) => classes,
            Self::TopK { k, .. } => classes.min(k as usize),
            Self::Sampled(sampling) => sampling.draws as usize,
        }
    }

    /// Bytes of the seed that a sample needs: see [`DrawSeeds`](super::DrawSeeds).
    pub fn seed_bytes(self) -> usize {
        match self {
            Self::Dense(_) | Self::TopK { .. } => 0,
            Self::Sampled(_) => size_of::<u64>(),
        }
    }

    /// Bytes that a sample of `classes` takes.
    pub fn sample_bytes(self, classes: usize) -> SampleBytes {
        let kept = self.kept(classes);
        let logits = kept * self.value_type().map_or(0, ValueType::bytes);
        let kept_classes = kept * if fits_u16(classes) { 2 } else { 4 };
        match self {
            Self::Dense(_) => SampleBytes {
                logits,
                kept_classes: 0,
                tail_bucket: 0,
            },
            Self::TopK { .. } => SampleBytes {
                logits,
                kept_classes,
                tail_bucket: if kept < classes { TailBucket::BYTES } else { 0 },
            },
            Self::Sampled(_) => SampleBytes {
                logits,
                kept_classes,
                tail_bucket: 0,
            },
        }
    }
}

impl Sampling {
    /// Largest number of draws per row. Unlike k, it is not limited by the number of classes, and bounds the
    /// memory that a trainer can make a teacher use for an answer.
    pub const MAX_DRAWS: u32 = 1_024;
    /// Highest temperature.
    pub const MAX_TEMPERATURE: u32 = 100;
}

/// Whether every class of `classes` is a u16.
pub(super) fn fits_u16(classes: usize) -> bool {
    classes <= 1 << 16
}

/// Appends one of `classes` classes, little-endian.
pub(super) fn push_class(bytes: &mut Vec<u8>, class: u32, classes: usize) {
    if fits_u16(classes) {
        bytes.extend((class as u16).to_le_bytes());
    } else {
        bytes.extend(class.to_le_bytes());
    }
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
            Self::Sampled(Sampling { draws, temperature }) => match temperature {
                1 => write!(f, "sampled-{draws}"),
                _ => write!(f, "sampled-{draws}-t{temperature}"),
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
        if let Some(parameters) = text.strip_prefix("sampled-") {
            return sampling(parameters).map(Self::Sampled).ok_or_else(invalid);
        }
        let k_and_type = text.strip_prefix("top-").ok_or_else(invalid)?;
        let (digits, values) = match k_and_type.strip_suffix("-f32") {
            Some(digits) => (digits, ValueType::F32),
            None => (k_and_type, ValueType::F16),
        };
        let k = number(digits, 1..=Self::MAX_K).ok_or_else(invalid)?;
        Ok(Self::TopK { k, values })
    }
}

/// Reads `50` or `50-t4`. The first has temperature 1, so that every encoding has one text.
fn sampling(parameters: &str) -> Option<Sampling> {
    let (draws, temperature) = match parameters.split_once("-t") {
        Some((draws, digits)) => (draws, number(digits, 2..=Sampling::MAX_TEMPERATURE)?),
        None => (parameters, 1),
    };
    Some(Sampling {
        draws: number(draws, 1..=Sampling::MAX_DRAWS)?,
        temperature,
    })
}

/// Reads a number without a sign or leading zeros.
fn number(digits: &str, allowed: RangeInclusive<u32>) -> Option<u32> {
    let number = digits.parse().ok()?;
    let plain = !digits.starts_with(['+', '0']);
    (plain && allowed.contains(&number)).then_some(number)
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
