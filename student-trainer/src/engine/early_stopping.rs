//! When a phase is over, and which of its epochs is the best.

use super::state::{BestEpoch, PhaseProgress};
use crate::config::{EarlyStoppingConfig, PhaseConfig};

impl PhaseProgress {
    /// Whether no epoch of the phase is left: all are done, or the last ones did not improve the validation
    /// accuracy.
    pub fn is_over(&self, config: &PhaseConfig) -> bool {
        let stops_early = |config| stops(config, self.best_epoch.as_ref(), self.epoch);
        self.epoch >= config.epochs || config.early_stopping.as_ref().is_some_and(stops_early)
    }
}

/// Whether `accuracy`, on the validation split after an epoch, improves on the best epoch before.
pub(super) fn improves(
    config: &EarlyStoppingConfig,
    best: Option<&BestEpoch>,
    accuracy: f64,
) -> bool {
    let before = best.and_then(|best| best.summary.validation_accuracy);
    before.is_none_or(|before| accuracy > before + config.min_delta)
}

/// Whether the phase ends after `done` epochs.
fn stops(config: &EarlyStoppingConfig, best: Option<&BestEpoch>, done: usize) -> bool {
    best.is_some_and(|best| done - best.epoch >= config.patience)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EpochSummary;

    /// The best epoch and the number of epochs until the phase stops, if `accuracies` are those of its epochs.
    fn run(patience: usize, min_delta: f64, accuracies: &[f64]) -> (usize, usize) {
        let config = EarlyStoppingConfig {
            patience,
            min_delta,
        };
        let mut best: Option<BestEpoch> = None;
        for (epoch, accuracy) in (1..).zip(accuracies) {
            if improves(&config, best.as_ref(), *accuracy) {
                let summary = EpochSummary {
                    train_loss: 1.0,
                    train_accuracy: None,
                    validation_accuracy: Some(*accuracy),
                };
                best = Some(BestEpoch { epoch, summary });
            }
            if stops(&config, best.as_ref(), epoch) {
                return (best.unwrap().epoch, epoch);
            }
        }
        (best.unwrap().epoch, accuracies.len())
    }

    #[test]
    fn a_phase_ends_after_epochs_without_improvement_and_its_best_is_the_first_of_equals() {
        for (patience, min_delta, accuracies, expected) in [
            (2, 0.0, &[0.1, 0.2, 0.2, 0.2, 0.9][..], (2, 4)),
            (2, 0.0, &[0.3, 0.2, 0.4, 0.4, 0.1, 0.9], (3, 5)),
            (1, 0.0, &[0.1, 0.2, 0.3], (3, 3)),
            (1, 0.0, &[0.2, 0.1, 0.3], (1, 2)),
            // Each is better than the one before, but not by enough.
            (2, 0.1, &[0.1, 0.15, 0.25, 0.3, 0.3, 0.9], (3, 5)),
            (9, 0.0, &[0.2, 0.1, 0.1], (1, 3)),
            (1, 0.0, &[0.0, 0.0], (1, 2)),
        ] {
            let found = run(patience, min_delta, accuracies);
            assert_eq!(found, expected, "{patience} {min_delta} {accuracies:?}");
        }
    }
}
