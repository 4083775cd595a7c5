//! The identity of a trained network.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{NetworkSpec, SpecError, Weights};

/// SHA-256 of a network's canonical spec and weights, as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId(String);

/// The text is not a model id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a model id: expected 64 lower-case hexadecimal digits")]
pub struct InvalidModelId(String);

/// The id of a network with these weights. A preset and its expanded layers have the same id.
///
/// # Errors
/// [`SpecError`] if a preset's keys have invalid values.
pub fn model_id(spec: &NetworkSpec, weights: &Weights) -> Result<ModelId, SpecError> {
    let spec = serde_json::to_vec(&spec.expanded()?).expect("a spec has string keys only");
    let mut digest = Sha256::new().chain_update(b"retort model 1\0");
    digest.update((spec.len() as u64).to_le_bytes());
    digest.update(&spec);
    // The spec fixes every name and shape, so the values in name order complete it.
    for (_, tensor) in weights.iter() {
        digest.update(tensor.to_le_bytes());
    }
    Ok(ModelId(hex::encode(digest.finalize())))
}

impl ModelId {
    /// The id's 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelId {
    type Error = InvalidModelId;

    fn try_from(text: String) -> Result<Self, InvalidModelId> {
        let digits = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits && text.len() == 64 {
            Ok(ModelId(text))
        } else {
            Err(InvalidModelId(text.chars().take(80).collect()))
        }
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> String {
        id.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
