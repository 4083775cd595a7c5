//! `model.toml`, the description beside a model's weights.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{NetworkSpec, SpecError, Weights, WeightsError, spec};

/// The oldest format that can be read. It has no digest of the weights.
const OLDEST_FORMAT_VERSION: u32 = 1;

/// The content of `model.toml`. A model folder holds it together with `weights.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Written files have [`ModelFile::FORMAT_VERSION`]. Version 1 can be read, too.
    pub format_version: u32,
    /// SHA-256 of `weights.safetensors` in lower-case hexadecimal digits. Files of version 1 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// The class names, in the order of the logits.
    pub class_names: Vec<String>,
    /// Mean per channel of pixels scaled to [0, 1], or per value of rows.
    pub normalization_mean: Vec<f32>,
    /// Standard deviation per channel of pixels scaled to [0, 1], or per value of rows; more than 0.
    pub normalization_std: Vec<f32>,
    /// The architecture.
    pub network: NetworkSpec,
}

/// Why a `model.toml` is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The text is not TOML, or has a wrong key or type.
    #[error("{0}")]
    Syntax(String),
    /// Another version of Retort wrote the file.
    #[error(
        "format_version = {found}, but this version of Retort reads {OLDEST_FORMAT_VERSION} to {}",
        ModelFile::FORMAT_VERSION
    )]
    FormatVersion {
        /// The version in the file.
        found: u32,
    },
    /// The digest of the weights is missing or invalid, or the format version does not have it.
    #[error("weights_sha256 {problem} with format_version = {format_version}")]
    WeightsDigest {
        /// The problem.
        problem: &'static str,
        /// The version in the file.
        format_version: u32,
    },
    /// The network is invalid.
    #[error("network: {0}")]
    Network(#[from] SpecError),
    /// A list has the wrong length for the network.
    #[error("{key} has {found} entries; the network requires {expected}")]
    Length {
        /// The list.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The length that the network requires.
        expected: usize,
    },
    /// A mean or standard deviation is out of range.
    #[error("{key} = {value} is not allowed; allowed: {allowed}")]
    Value {
        /// The list.
        key: &'static str,
        /// The value in it.
        value: f32,
        /// The allowed values.
        allowed: &'static str,
    },
    /// The content cannot be written as TOML.
    #[error("cannot be written as TOML: {0}")]
    Write(#[from] toml::ser::Error),
}

impl ModelFile {
    /// The version that is written, and the newest one that can be read.
    pub const FORMAT_VERSION: u32 = 2;

    /// Reads and checks a `model.toml`.
    ///
    /// # Errors
    /// A one-line message that names the key.
    pub fn from_toml(text: &str) -> Result<Self, ModelFileError> {
        // Check the version first: a newer format may have keys that are unknown here.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } = spec::from_toml(text).map_err(ModelFileError::Syntax)?;
        if !(OLDEST_FORMAT_VERSION..=Self::FORMAT_VERSION).contains(&format_version) {
            return Err(ModelFileError::FormatVersion {
                found: format_version,
            });
        }
        let file: ModelFile = spec::from_toml(text).map_err(ModelFileError::Syntax)?;
        file.check()?;
        Ok(file)
    }

    /// Checks and writes a `model.toml`.
    ///
    /// # Errors
    /// If [`ModelFile::from_toml`] would reject the content.
    pub fn to_toml(&self) -> Result<String, ModelFileError> {
        self.check()?;
        Ok(toml::to_string(self)?)
    }

    /// Sets the digest to that of `weights_file`, the bytes of `weights.safetensors`.
    #[must_use]
    pub fn with_weights(self, weights_file: &[u8]) -> Self {
        Self {
            format_version: Self::FORMAT_VERSION,
            weights_sha256: Some(sha256(weights_file)),
            ..self
        }
    }

    /// Reads `weights_file`, the bytes of `weights.safetensors`, and compares them with the digest.
    ///
    /// # Errors
    /// [`WeightsError::Digest`] if their digest is another one; the errors of
    /// [`Weights::from_safetensors`] if they do not fit the network.
    pub fn read_weights(&self, weights_file: &[u8]) -> Result<Weights, WeightsError> {
        let weights = Weights::from_safetensors(weights_file, &self.network)?;
        match &self.weights_sha256 {
            Some(expected) if *expected != sha256(weights_file) => Err(WeightsError::Digest {
                expected: expected.clone(),
                found: sha256(weights_file),
            }),
            _ => Ok(weights),
        }
    }

    fn check(&self) -> Result<(), ModelFileError> {
        let is_digest = |text: &String| {
            let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            text.len() == 64 && text.bytes().all(is_hex)
        };
        let problem = match (self.format_version, &self.weights_sha256) {
            (OLDEST_FORMAT_VERSION, None) => None,
            (OLDEST_FORMAT_VERSION, Some(_)) => Some("is not allowed"),
            (_, None) => Some("is missing; it is needed"),
            (_, Some(digest)) if is_digest(digest) => None,
            (_, Some(_)) => Some("must be 64 lower-case hex digits"),
        };
        if let Some(problem) = problem {
            return Err(ModelFileError::WeightsDigest {
                problem,
                format_version: self.format_version,
            });
        }
        self.network.layers()?;
        let channels = self.network.input.channels();
        for (key, found, expected) in [
            ("class_names", self.class_names.len(), self.network.classes),
            (
                "normalization_mean",
                self.normalization_mean.len(),
                channels,
            ),
            ("normalization_std", self.normalization_std.len(), channels),
        ] {
            if found != expected {
                return Err(ModelFileError::Length {
                    key,
                    found,
                    expected,
                });
            }
        }
        if let Some(&value) = self
            .normalization_mean
            .iter()
            .find(|mean| !mean.is_finite())
        {
            return Err(ModelFileError::Value {
                key: "normalization_mean",
                value,
                allowed: "a finite number",
            });
        }
        if let Some(&value) = self
            .normalization_std
            .iter()
            .find(|std| !(std.is_finite() && **std > 0.0))
        {
            return Err(ModelFileError::Value {
                key: "normalization_std",
                value,
                allowed: "a number more than 0",
            });
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod properties;
