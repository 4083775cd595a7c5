//! Computes a model's outputs for the samples of a data set.

use datasets::{SampleKind, Target};

use super::{
    InspectError, Progress, Stage,
    metrics::Logits,
    samples::{BATCH, Samples},
    subject::Subject,
    variants::{self, Variant},
};

/// In how many respects another card differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changes {
    One,
    Two,
}

/// A model and the samples that it is tried on.
pub(super) struct Run<'r> {
    pub(super) subject: &'r mut Subject,
    pub(super) samples: &'r Samples,
    pub(super) progress: &'r (dyn Fn(Progress) + Sync),
}

impl Run<'_> {
    /// The model's outputs, as they are, for the samples at `positions`.
    ///
    /// # Errors
    /// If a sample cannot be read, does not fit the model's input, or the model cannot compute it.
    pub(super) fn outputs(
        &mut self,
        positions: &[u32],
        stage: Stage,
    ) -> Result<Vec<f32>, InspectError> {
        let kind = self.samples.kind();
        let misfit = || InspectError::Samples {
            samples: kind.tensor("samples").to_string(),
            input: self.subject.input().to_string(),
        };
        let target = Target {
            shape: self.subject.sample_shape(kind).ok_or_else(misfit)?,
            interpolation: self.subject.interpolation(),
        };
        let mut outputs = Vec::new();
        for (batch, chunk) in positions.chunks(BATCH).enumerate() {
            (self.progress)(Progress {
                stage,
                done: batch * BATCH,
                total: positions.len(),
            });
            let batch = self.samples.batch(chunk, &target)?;
            outputs.extend(self.subject.outputs(&batch)?);
        }
        Ok(outputs)
    }

    /// The logits for the samples at `positions`; `None` if the model cannot compute them.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub(super) fn logits_or_none(
        &mut self,
        positions: &[u32],
    ) -> Result<Option<Logits>, InspectError> {
        match self.outputs(positions, Stage::Trying) {
            Ok(outputs) => Ok(Some(self.subject.logits(outputs))),
            Err(InspectError::Model(_) | InspectError::Samples { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Other cards for the model: those that change one thing or, as `changes` says, two.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub(super) fn variants(&self, changes: Changes) -> Result<Vec<Variant>, InspectError> {
        let Some(card) = self.subject.image_card() else {
            return Ok(Vec::new());
        };
        let Some(input) = self.subject.own_input() else {
            return Ok(Vec::new());
        };
        let SampleKind::Image { size, .. } = self.samples.kind() else {
            return Ok(Vec::new());
        };
        let data = self.samples.normalization(&card.shape)?;
        Ok(match changes {
            Changes::One => variants::variants(card, input, &data, size),
            Changes::Two => variants::pairs(card, &data),
        })
    }
}
