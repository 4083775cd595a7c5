//! Encodes logits.

use bytes::Bytes;
use half::{f16, slice::HalfFloatSliceExt};

use super::{Encoding, Parts, SoftTargets, TailBucket, ValueType, encoding::fits_u16};

/// Encodes logits; reuses its buffers for the next batch.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Classes of one row: the kept ones first.
    order: Vec<u32>,
    kept_logits: Vec<f32>,
    halves: Vec<f16>,
}

/// Why logits cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Infinite, or not a number.
    #[error("a logit is {0}")]
    NotFinite(String),
    /// Finite, but too large for f16.
    #[error(
        "a logit is {0}, which f16 cannot hold (at most 65504); use the encoding f32 or top-K-f32"
    )]
    TooLarge(String),
}

impl Encoder {
    /// Encodes `logits`, [samples, classes] row-major. Of equal logits, the lower classes are kept.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode(
        &mut self,
        encoding: Encoding,
        logits: &[f32],
        classes: usize,
    ) -> Result<SoftTargets, EncodeError> {
        if let Some(value) = logits.iter().find(|value| !value.is_finite()) {
            return Err(EncodeError::NotFinite(value.to_string()));
        }
        let parts = match encoding {
            Encoding::Dense(values) => Parts {
                logits: self.values(logits, values)?,
                ..Parts::default()
            },
            Encoding::TopK { .. } => self.top_k(encoding, logits, classes)?,
        };
        Ok(SoftTargets {
            encoding,
            samples: logits.len() / classes,
            classes,
            parts,
        })
    }

    fn top_k(
        &mut self,
        encoding: Encoding,
        logits: &[f32],
        classes: usize,
    ) -> Result<Parts, EncodeError> {
        let samples = logits.len() / classes;
        let row_bytes = encoding.sample_bytes(classes);
        let kept = encoding.kept(classes);
        let mut kept_classes = Vec::with_capacity(samples * row_bytes.kept_classes);
        let mut tail_buckets = Vec::with_capacity(samples * row_bytes.tail_bucket);
        let mut kept_logits = std::mem::take(&mut self.kept_logits);
        kept_logits.clear();
        for row in logits.chunks_exact(classes) {
            let (largest, others) = split_largest(row, kept, &mut self.order);
            for class in largest {
                kept_logits.push(row[*class as usize]);
                if fits_u16(classes) {
                    kept_classes.extend((*class as u16).to_le_bytes());
                } else {
                    kept_classes.extend(class.to_le_bytes());
                }
            }
            if !others.is_empty() {
                let others = others.iter().map(|class| row[*class as usize]);
                tail_buckets.extend(TailBucket::of(others).to_le_bytes());
            }
        }
        let encoded = self.values(&kept_logits, encoding.value_type());
        self.kept_logits = kept_logits;
        Ok(Parts {
            logits: encoded?,
            kept_classes: kept_classes.into(),
            tail_buckets: tail_buckets.into(),
        })
    }

    fn values(&mut self, logits: &[f32], values: ValueType) -> Result<Bytes, EncodeError> {
        let mut bytes = vec![0; logits.len() * values.bytes()];
        match values {
            ValueType::F32 => {
                for (value, out) in logits.iter().zip(bytes.as_chunks_mut().0) {
                    *out = value.to_le_bytes();
                }
            }
            ValueType::F16 => {
                self.halves.resize(logits.len(), f16::ZERO);
                self.halves.convert_from_f32_slice(logits);
                for (value, out) in self.halves.iter().zip(bytes.as_chunks_mut().0) {
                    *out = value.to_le_bytes();
                }
                let too_large = self.halves.iter().position(|value| !value.is_finite());
                if let Some(position) = too_large {
                    return Err(EncodeError::TooLarge(logits[position].to_string()));
                }
            }
        }
        Ok(bytes.into())
    }
}

/// The classes of the `kept` largest logits of `row`, and the other classes, both ascending: sums over them
/// must not depend on the order that the selection leaves.
fn split_largest<'o>(row: &[f32], kept: usize, order: &'o mut Vec<u32>) -> (&'o [u32], &'o [u32]) {
    order.clear();
    // Holds: classes fit u32, because a row of logits fits into memory.
    order.extend(0..row.len() as u32);
    if kept < row.len() {
        order.select_nth_unstable_by(kept, |a, b| {
            let [first, second] = [a, b].map(|class| row[*class as usize]);
            second.total_cmp(&first).then(a.cmp(b))
        });
    }
    let (largest, others) = order.split_at_mut(kept);
    largest.sort_unstable();
    others.sort_unstable();
    (largest, others)
}
