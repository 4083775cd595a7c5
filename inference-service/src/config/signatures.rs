//! Which signatures of models are accepted.

use std::path::PathBuf;

use common::config::{Problems, Validate};
use model_signing::TrustedKeys;
use serde::Deserialize;

/// Which signatures of models are accepted, when they are published and when they are loaded from the store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignaturesConfig {
    /// Files with the public keys whose signatures are accepted.
    pub trusted_keys: Vec<PathBuf>,
    /// Whether a model without a signature is rejected.
    pub required: bool,
}

impl Validate for SignaturesConfig {
    fn validate(&self, problems: &mut Problems) {
        let mut keys = TrustedKeys::default();
        for (index, file) in self.trusted_keys.iter().enumerate() {
            if let Err(error) = keys.trust(file) {
                let key = format!("signatures.trusted_keys[{index}]");
                problems.add(key, file.display(), &error.to_string());
            }
        }
        problems.require(
            !self.required || !self.trusted_keys.is_empty(),
            "signatures.required",
            self.required,
            "needs a public key in signatures.trusted_keys",
        );
    }
}
