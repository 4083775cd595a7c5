//! When a phase ends before its last epoch.

use common::config::Problems;
use serde::{Deserialize, Serialize};

/// Ends a phase whose validation accuracy no longer improves, and keeps the weights of its best epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingConfig {
    /// Epochs in a row without an improvement after which the phase ends; 1 or more.
    pub patience: usize,
    /// An improvement is more than this above the best accuracy so far; 0 or more and below 1.
    #[serde(default)]
    pub min_delta: f64,
}

impl EarlyStoppingConfig {
    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let Self {
            patience,
            min_delta,
        } = *self;
        let allowed = "must be 1 or more";
        problems.require(patience > 0, &format!("{key}.patience"), patience, allowed);
        let fits = (0.0..1.0).contains(&min_delta);
        let allowed = "must be 0 or more and below 1, a share of the validation samples";
        problems.require(fits, &format!("{key}.min_delta"), min_delta, allowed);
    }
}
