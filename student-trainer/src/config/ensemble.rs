//! `[ensembles.NAME]` of a run: teachers that a term learns from together.

use std::collections::BTreeMap;

use common::config::is_default;
use serde::{Deserialize, Serialize};

/// Teachers that a term learns from together: one `[ensembles.NAME]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleConfig {
    /// What the weighted mean is of.
    #[serde(default, skip_serializing_if = "is_default")]
    pub of: EnsembleMean,
    /// The teachers with their weights, each above 0; they are divided by their sum.
    pub teachers: BTreeMap<String, f64>,
}

/// What the weighted mean of an ensemble is of. Hinton et al. 2015, "Distilling the Knowledge in a Neural Network",
/// section 1, names both: an arithmetic or a geometric mean of the teachers' predictive distributions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnsembleMean {
    /// The probabilities at the temperature of the term: the arithmetic mean.
    #[default]
    Probabilities,
    /// The logits: the geometric mean of the probabilities, at every temperature.
    Logits,
}
