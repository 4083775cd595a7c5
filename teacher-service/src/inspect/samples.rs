//! The samples that a model is inspected with.

use std::sync::Arc;

use bytes::Bytes;
use datasets::{
    DataSpec, DatasetError, Normalization, SampleKind, Shares, Source, SplitName, Subset, Target,
    Values, read_plain_for,
};

use super::{DataChoice, Progress, Stage};
use crate::batch::{Batch, Input};

/// A sample of a data set: of each class in proportion.
#[derive(Debug)]
pub(super) struct Samples {
    source: Subset,
    /// The split that they are from.
    pub(super) split: SplitName,
    /// Samples of the split.
    pub(super) of_split: usize,
    /// What was left out.
    pub(super) unreadable: usize,
}

/// Samples that one batch holds.
pub(super) const BATCH: usize = 32;

impl Samples {
    /// Opens the data and draws the samples of `choice`, labelled ones if there are any: from the test split, otherwise
    /// from the validation split, otherwise from the training samples. The model has not seen the former two, as far as
    /// the data set itself says; data without splits is not split.
    pub(super) fn draw(
        choice: &DataChoice,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Self, DatasetError> {
        let spec = DataSpec {
            format: choice.format,
            ground: choice.ground,
            shares: Shares {
                validation: 0.0,
                test: 0.0,
                ..Shares::default()
            },
            ..DataSpec::new(&choice.path)
        };
        let opened = datasets::open(&spec, &|read| {
            progress(Progress {
                stage: Stage::Reading,
                done: read.done,
                total: read.total,
            });
        })?;
        // The training samples come last.
        let mut splits: Vec<_> = opened
            .splits()
            .filter(|(_, source)| !source.is_empty())
            .collect();
        splits.reverse();
        let labelled = splits.iter().find_map(|(name, source)| {
            let labelled = Subset::whole(Arc::clone(source)).labelled();
            (!labelled.is_empty()).then_some((*name, labelled))
        });
        let first = splits.first();
        let unlabelled = || first.map(|(name, source)| (*name, Subset::whole(Arc::clone(source))));
        // Holds: an opened data set has one sample or more.
        let (split, all) = labelled
            .or_else(unlabelled)
            .expect("the data set has a sample");
        Ok(Self {
            source: all.sample(choice.samples.get().min(all.len()))?,
            split,
            of_split: all.len(),
            unreadable: opened.unreadable.len(),
        })
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.source.len()
    }

    /// What a sample is.
    pub(super) fn kind(&self) -> SampleKind {
        self.source.kind()
    }

    /// Names of the classes in label order; empty if the data has no labels.
    pub(super) fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    /// The labels of all samples; `None` if they have none.
    pub(super) fn labels(&self) -> Option<Vec<u32>> {
        (0..self.len() as u32)
            .map(|sample| self.source.label(sample))
            .collect()
    }

    /// Mean and standard deviation of the pixels of each channel, from 0 to 1.
    pub(super) fn normalization(&self, shape: &[usize]) -> Result<Normalization, DatasetError> {
        const ENOUGH: usize = 256;
        Ok(Normalization::estimate(&self.source, shape, ENOUGH)?)
    }

    /// The batch of the samples at `positions` for the input `target`.
    pub(super) fn batch(&self, positions: &[u32], target: &Target) -> Result<Batch, DatasetError> {
        let input = match read_plain_for(&self.source, positions, target.clone())? {
            Values::Uint8(pixels) => Input::U8(Bytes::from(pixels)),
            Values::Fp32(rows) => Input::F32(rows),
        };
        Ok(Batch {
            samples: positions.len(),
            input,
        })
    }
}
