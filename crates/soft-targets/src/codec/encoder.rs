//! Encodes logits.

use bytes::Bytes;
use half::{f16, slice::HalfFloatSliceExt};

use super::{
    DrawSeeds, Encoding, Parts, Sampling, SoftTargets, TailBucket, ValueType, encoding::push_class,
    sampler::Sampler,
};

/// Encodes logits; reuses its buffers for the next batch.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Classes of one row: the kept ones first.
    order: Vec<u32>,
    kept_logits: Vec<f32>,
    halves: Vec<f16>,
    sampler: Sampler,
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
    /// A sampled encoding needs one seed per sample.
    #[error("{seeds} seeds for the draws of {samples} samples; a sampled encoding needs one each")]
    Seeds {
        /// Number of seeds.
        seeds: usize,
        /// Number of rows.
        samples: usize,
    },
}

impl Encoder {
    /// Encodes `logits`, [samples, classes] row-major, in an encoding that draws nothing. Of equal logits, the
    /// lower classes are kept.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode(
        &mut self,
        encoding: Encoding,
        logits: &[f32],
        classes: usize,
    ) -> Result<SoftTargets, EncodeError> {
        self.encode_with_seeds(encoding, logits, classes, &DrawSeeds::default())
    }

    /// As [`encode`](Self::encode), in any encoding. `seeds` decide what a sampled encoding draws; the others
    /// ignore them.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode_with_seeds(
        &mut self,
        encoding: Encoding,
        logits: &[f32],
        classes: usize,
        seeds: &DrawSeeds,
    ) -> Result<SoftTargets, EncodeError> {
        if let Some(value) = logits.iter().find(|value| !value.is_finite()) {
            return Err(EncodeError::NotFinite(value.to_string()));
        }
        let parts = match encoding {
            Encoding::Dense(values) => Parts {
                logits: self.values(logits, values)?,
                ..Parts::default()
            },
            Encoding::TopK { values, .. } => self.top_k(encoding, values, logits, classes)?,
            Encoding::Sampled(sampling) => self.sampled(sampling, logits, classes, seeds)?,
        };
        Ok(SoftTargets {
            encoding,
            samples: logits.len() / classes,
            classes,
            parts,
        })
    }

    fn sampled(
        &mut self,
        sampling: Sampling,
        logits: &[f32],
        classes: usize,
        seeds: &DrawSeeds,
    ) -> Result<Parts, EncodeError> {
        let samples = logits.len() / classes;
        if seeds.samples() != samples {
            let seeds = seeds.samples();
            return Err(EncodeError::Seeds { seeds, samples });
        }
        let row_bytes = Encoding::Sampled(sampling)
            .sample_bytes(classes)
            .kept_classes;
        let mut drawn_classes = Vec::with_capacity(samples * row_bytes);
        for (row, seed) in logits.chunks_exact(classes).zip(seeds.iter()) {
            for class in self.sampler.draw(sampling, row, seed) {
                push_class(&mut drawn_classes, *class, classes);
            }
        }
        Ok(Parts {
            kept_classes: drawn_classes.into(),
            ..Parts::default()
        })
    }

    fn top_k(
        &mut self,
        encoding: Encoding,
        values: ValueType,
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
                push_class(&mut kept_classes, *class, classes);
            }
            if !others.is_empty() {
                let others = others.iter().map(|class| row[*class as usize]);
                tail_buckets.extend(TailBucket::of(others).to_le_bytes());
            }
        }
        let encoded = self.values(&kept_logits, values);
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
