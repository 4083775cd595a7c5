//! Soft targets in their encodings: one codec for the wire and for recordings.
//!
//! A teacher computes for each sample a row of raw logits, one per class. They are sent and stored as f32,
//! as f16, or as the k largest of each row and a [`TailBucket`] for the others. The loss applies the
//! temperature: raw logits serve any. Or the teacher draws classes from their probabilities at one
//! temperature ([`Sampling`]), and sends and stores those alone.

mod classes;
mod draw_seeds;
mod encoder;
mod encoding;
mod sampler;
mod tail_bucket;
mod wire;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use half::f16;

pub use classes::{ClassMatch, ClassOrder, ClassesDiffer};
pub use draw_seeds::DrawSeeds;
pub use encoder::{EncodeError, Encoder};
pub use encoding::{Encoding, InvalidEncoding, SampleBytes, Sampling, ValueType};
pub use tail_bucket::TailBucket;

/// A teacher's answer for some samples, still encoded, and validated: lengths fit, every number is finite,
/// and the kept or drawn classes of each row exist and are ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftTargets {
    encoding: Encoding,
    samples: usize,
    classes: usize,
    parts: Parts,
}

/// The bytes of soft targets: little-endian, row-major, one row per sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parts {
    /// Raw logits: [samples, classes], or [samples, k] of the kept classes. Empty if sampled.
    pub logits: Bytes,
    /// Top-k: the kept classes, ascending in each row, [samples, k]. Sampled: the drawn classes, ascending in
    /// each row, with repetitions, [samples, draws]. u16, or u32 for more than 65,536 classes. Empty if dense.
    pub kept_classes: Bytes,
    /// f32 [samples, 2]: see [`TailBucket`]. Empty unless top-k, and if every class is kept.
    pub tail_buckets: Bytes,
}

/// What is wrong with encoded soft targets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More or fewer bytes than the samples need.
    #[error(
        "{found} bytes of {part} for [{samples}, {classes}] as {encoding}, which needs {needed}"
    )]
    Length {
        /// "logits", "kept classes" or "tail buckets".
        part: &'static str,
        /// Number of bytes.
        found: usize,
        /// Expected number of bytes.
        needed: usize,
        /// Number of rows.
        samples: usize,
        /// Number of classes.
        classes: usize,
        /// Encoding of the rows.
        encoding: Encoding,
    },
    /// Infinite, or not a number.
    #[error("a logit is {0}")]
    NotFinite(String),
    /// The classes of a row are not ascending.
    #[error("the kept classes of sample {sample} do not rise")]
    Unordered {
        /// The row.
        sample: usize,
    },
    /// A row names a class that does not exist.
    #[error("sample {sample} keeps class {class}, but there are {classes} classes")]
    NoSuchClass {
        /// The row.
        sample: usize,
        /// The class.
        class: u32,
        /// Classes of the teacher.
        classes: usize,
    },
}

impl SoftTargets {
    /// Validates encoded bytes and takes them without a copy.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn new(
        encoding: Encoding,
        samples: usize,
        classes: usize,
        parts: Parts,
    ) -> Result<Self, Malformed> {
        let targets = Self {
            encoding,
            samples,
            classes,
            parts,
        };
        targets.check_lengths()?;
        targets.check_values()?;
        targets.check_kept_classes()?;
        Ok(targets)
    }

    /// Encoding of the rows.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Number of rows.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Number of the teacher's classes, kept or not.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of classes that are kept of each row: all, or k; or number of its draws.
    pub fn kept(&self) -> usize {
        self.encoding.kept(self.classes)
    }

    /// The encoded bytes.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The first `samples` rows; shares the bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn take(&self, samples: usize) -> Self {
        let row = self.encoding.sample_bytes(self.classes);
        Self {
            samples,
            parts: Parts {
                logits: self.parts.logits.slice(..samples * row.logits),
                kept_classes: self.parts.kept_classes.slice(..samples * row.kept_classes),
                tail_buckets: self.parts.tail_buckets.slice(..samples * row.tail_bucket),
            },
            ..*self
        }
    }

    /// Rows of soft targets of the same encoding and classes as `like`, each a pair of soft targets and
    /// a row in them, copied into new buffers in the order given.
    ///
    /// # Panics
    /// If a row does not exist, or if encoding or classes differ.
    pub fn gather<'t>(like: &Self, rows: impl ExactSizeIterator<Item = (&'t Self, usize)>) -> Self {
        let samples = rows.len();
        let size = like.encoding.sample_bytes(like.classes);
        let mut logits = Vec::with_capacity(samples * size.logits);
        let mut kept_classes = Vec::with_capacity(samples * size.kept_classes);
        let mut tail_buckets = Vec::with_capacity(samples * size.tail_bucket);
        for (targets, row) in rows {
            assert_eq!(
                (targets.encoding, targets.classes),
                (like.encoding, like.classes)
            );
            let cut = |bytes: usize| row * bytes..(row + 1) * bytes;
            logits.extend_from_slice(&targets.parts.logits[cut(size.logits)]);
            kept_classes.extend_from_slice(&targets.parts.kept_classes[cut(size.kept_classes)]);
            tail_buckets.extend_from_slice(&targets.parts.tail_buckets[cut(size.tail_bucket)]);
        }
        Self {
            samples,
            parts: Parts {
                logits: logits.into(),
                kept_classes: kept_classes.into(),
                tail_buckets: tail_buckets.into(),
            },
            ..*like
        }
    }

    /// All rows of `batches`, in order; `None` if there are no batches.
    ///
    /// # Panics
    /// If their encodings or classes differ.
    pub fn concat(batches: &[Self]) -> Option<Self> {
        let like = batches.first()?;
        let alike = |batch: &Self| (batch.encoding, batch.classes) == (like.encoding, like.classes);
        assert!(batches.iter().all(alike));
        let join = |part: fn(&Parts) -> &Bytes| -> Bytes {
            let parts: Vec<&[u8]> = batches
                .iter()
                .map(|batch| &part(&batch.parts)[..])
                .collect();
            parts.concat().into()
        };
        Some(Self {
            samples: batches.iter().map(Self::samples).sum(),
            parts: Parts {
                logits: join(|parts| &parts.logits),
                kept_classes: join(|parts| &parts.kept_classes),
                tail_buckets: join(|parts| &parts.tail_buckets),
            },
            ..*like
        })
    }

    /// The kept logits as f32: [samples, kept]; none if sampled.
    pub fn logits(&self) -> impl Iterator<Item = f32> {
        let bytes = &self.parts.logits;
        let (wide, narrow) = match self.encoding.value_type() {
            Some(ValueType::F32) => (&bytes[..], &[][..]),
            Some(ValueType::F16) => (&[][..], &bytes[..]),
            None => (&[][..], &[][..]),
        };
        let wide = wide.as_chunks().0.iter().copied().map(f32::from_le_bytes);
        let narrow = narrow.as_chunks().0.iter().copied().map(f16::from_le_bytes);
        wide.chain(narrow.map(f16::to_f32))
    }

    /// The classes that the kept logits belong to, or the drawn ones: [samples, kept].
    pub fn kept_classes(&self) -> impl Iterator<Item = u32> {
        let bytes = &self.parts.kept_classes;
        let implied = match self.encoding {
            Encoding::Dense(_) => self.samples,
            Encoding::TopK { .. } | Encoding::Sampled(_) => 0,
        };
        let (narrow, wide) = if encoding::fits_u16(self.classes) {
            (&bytes[..], &[][..])
        } else {
            (&[][..], &bytes[..])
        };
        let narrow = narrow.as_chunks().0.iter().copied().map(u16::from_le_bytes);
        let wide = wide.as_chunks().0.iter().copied().map(u32::from_le_bytes);
        // Holds: classes fit u32, because a row of logits fits into memory.
        let classes = self.classes as u32;
        let implied = (0..implied).flat_map(move |_| 0..classes);
        narrow.map(u32::from).chain(wide).chain(implied)
    }

    /// The summary of the classes that are not kept, one per sample; none if all are kept.
    pub fn tail_buckets(&self) -> impl Iterator<Item = TailBucket> {
        let (rows, _) = self.parts.tail_buckets.as_chunks::<{ TailBucket::BYTES }>();
        rows.iter().map(TailBucket::from_le_bytes)
    }

    fn check_lengths(&self) -> Result<(), Malformed> {
        let row = self.encoding.sample_bytes(self.classes);
        let Parts {
            logits,
            kept_classes,
            tail_buckets,
        } = &self.parts;
        for (part, bytes, row) in [
            ("logits", logits, row.logits),
            ("kept classes", kept_classes, row.kept_classes),
            ("tail buckets", tail_buckets, row.tail_bucket),
        ] {
            let needed = self.samples.saturating_mul(row);
            if bytes.len() != needed {
                return Err(Malformed::Length {
                    part,
                    found: bytes.len(),
                    needed,
                    samples: self.samples,
                    classes: self.classes,
                    encoding: self.encoding,
                });
            }
        }
        Ok(())
    }

    fn check_values(&self) -> Result<(), Malformed> {
        let buckets = self
            .tail_buckets()
            .flat_map(|bucket| [bucket.log_mass, bucket.mean_logit]);
        match self
            .logits()
            .chain(buckets)
            .find(|value| !value.is_finite())
        {
            Some(value) => Err(Malformed::NotFinite(value.to_string())),
            None => Ok(()),
        }
    }

    fn check_kept_classes(&self) -> Result<(), Malformed> {
        let may_repeat = match self.encoding {
            Encoding::Dense(_) => return Ok(()),
            Encoding::TopK { .. } => false,
            Encoding::Sampled(_) => true,
        };
        let (kept, classes) = (self.kept(), self.classes);
        let mut before = None;
        for (position, class) in self.kept_classes().enumerate() {
            let sample = position / kept;
            let rises = before < Some(class) || (may_repeat && before == Some(class));
            if position % kept > 0 && !rises {
                return Err(Malformed::Unordered { sample });
            }
            if class as usize >= classes {
                return Err(Malformed::NoSuchClass {
                    sample,
                    class,
                    classes,
                });
            }
            before = Some(class);
        }
        Ok(())
    }
}
