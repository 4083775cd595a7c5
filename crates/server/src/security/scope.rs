//! The scopes of tokens.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A permission of a token. No scope includes another; a token may have several.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Scope {
    /// Request predictions and model metadata from an inference service.
    Predict,
    /// Upload models to an inference service and list its versions.
    Publish,
    /// Activate, load, unload and delete an inference service's versions.
    Admin,
    /// Request a teacher's logits.
    SoftTargets,
    /// Submit, watch and cancel a trainer's runs.
    Runs,
    /// Read any service's metrics.
    Metrics,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Predict => "predict",
            Self::Publish => "publish",
            Self::Admin => "admin",
            Self::SoftTargets => "soft_targets",
            Self::Runs => "runs",
            Self::Metrics => "metrics",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_one_name_everywhere() {
        for scope in Scope::value_variants() {
            let in_files = serde_json::to_value(scope).unwrap();
            let argument = scope.to_possible_value().unwrap();
            assert_eq!(in_files, scope.to_string());
            assert_eq!(argument.get_name(), scope.to_string());
        }
    }
}
