//! `model.toml`, the description beside a model's weights.

use serde::{Deserialize, Serialize};

use crate::{NetworkSpec, SpecError, spec};

/// The content of `model.toml`. A model folder holds it together with `weights.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// [`ModelFile::FORMAT_VERSION`]; the error for any other version names it.
    pub format_version: u32,
    /// The class names, in the order of the logits.
    pub class_names: Vec<String>,
    /// Mean per channel of pixels scaled to [0, 1].
    pub normalization_mean: Vec<f32>,
    /// Standard deviation per channel of pixels scaled to [0, 1]; more than 0.
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
        "format_version = {found}, but this version of Retort reads {}",
        ModelFile::FORMAT_VERSION
    )]
    FormatVersion {
        /// The version in the file.
        found: u32,
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
    /// The format version that this code reads and writes.
    pub const FORMAT_VERSION: u32 = 1;

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
        if format_version != Self::FORMAT_VERSION {
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

    fn check(&self) -> Result<(), ModelFileError> {
        self.network.layers()?;
        let channels = self.network.input[0];
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

#[cfg(test)]
mod properties;
