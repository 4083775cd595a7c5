//! What a phase results in: how good its weights are, and which it keeps.

use soft_targets::consumption::Consumption;

use super::Phase;
use crate::{
    classification::{accuracy, labels, predict},
    engine::{
        early_stopping,
        error::EngineError,
        inference,
        state::{BestEpoch, EpochSummary},
    },
    loader::TrainingSamples,
};

/// Figures of a finished phase.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSummary {
    /// The epoch whose weights the network has now: the last one or, if the phase stops early, the best.
    pub epoch: EpochSummary,
    /// Position of that epoch, 1-based, if the phase stops early.
    pub best_epoch: Option<usize>,
    /// Digest of the training data; each sample is used exactly once an epoch.
    pub consumed: Consumption,
    /// Wall-clock time of all epochs.
    pub seconds: f64,
}

impl Phase<'_> {
    /// Accuracy on the validation split, if there is one: of the moving average if the phase has one, and in int8 if the
    /// phase is quantization-aware.
    pub(super) fn validate(&self) -> Result<Option<f64>, EngineError> {
        let Some(validation) = self.context.validation else {
            return Ok(None);
        };
        let TrainingSamples {
            input,
            normalization,
            ..
        } = self.context.batches.samples;
        let network = self.updater.result();
        let quantized = self.context.quantized(network)?;
        let predictions = predict(validation, &input.dimensions(), |values| {
            let logits = match &quantized {
                None => inference::logits(network, values, input, normalization),
                Some(quantized) => inference::int8_logits(quantized, values, input, normalization),
            };
            logits.map_err(EngineError::from)
        })?;
        Ok(accuracy(&predictions, &labels(validation)))
    }

    /// Keeps the weights of the epoch that ends with `summary` if it is the best so far and the phase stops early.
    pub(super) fn note_best(&mut self, summary: EpochSummary) -> Result<(), EngineError> {
        let before = self.progress.best_epoch.as_ref();
        if let Some(config) = &self.context.config.early_stopping
            && let Some(accuracy) = summary.validation_accuracy
            && early_stopping::improves(config, before, accuracy)
        {
            self.best = Some(self.weights(self.updater.result())?);
            self.progress.best_epoch = Some(BestEpoch {
                epoch: self.progress.epoch + 1,
                summary,
            });
        }
        Ok(())
    }

    /// Gives the network the weights that the phase results in.
    pub(super) fn finish(&mut self) -> Result<PhaseSummary, EngineError> {
        let best = self.progress.best_epoch;
        if let (Some(best), Some(weights)) = (best, &self.best) {
            self.network.load_weights(weights)?;
            self.context.events.notices().notice(format!(
                "phase {} ({}) ends after epoch {} of {} and keeps the weights of epoch {}, its best: validation \
                 accuracy {:.2} %",
                self.context.batches.phase + 1,
                self.context.config.kind(),
                self.progress.epoch,
                self.context.config.epochs,
                best.epoch,
                100.0 * best.summary.validation_accuracy.unwrap_or_default(),
            ));
        } else if let Some(average) = self.updater.average() {
            self.network.load_weights(&self.weights(average)?)?;
        }
        let last = self.progress.last_epoch;
        Ok(PhaseSummary {
            // Holds: a validated phase has at least one epoch, and each epoch sets this.
            epoch: best
                .map(|best| best.summary)
                .or(last)
                .expect("a phase has an epoch"),
            best_epoch: best.map(|best| best.epoch),
            consumed: self.progress.consumed.clone(),
            seconds: self.progress.seconds,
        })
    }
}
