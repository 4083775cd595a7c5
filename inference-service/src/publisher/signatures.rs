//! Decides whether a model's signature, or its absence, is accepted.

use artifacts::{manifest::ArtifactManifest, model_store::SignedManifest};
use model_signing::{KeyFileError, ModelFiles, TrustedKeys};

use crate::{config::SignaturesConfig, error::PublishError};

/// The signatures that the service accepts.
#[derive(Debug, Default)]
pub(crate) struct SignaturePolicy {
    keys: TrustedKeys,
    required: bool,
}

impl SignaturePolicy {
    /// Reads the trusted keys.
    ///
    /// # Errors
    /// If a file has no usable key; the check of the configuration finds the same files.
    pub(crate) fn load(config: &SignaturesConfig) -> Result<Self, KeyFileError> {
        let mut keys = TrustedKeys::default();
        for file in &config.trusted_keys {
            keys.trust(file)?;
        }
        Ok(Self {
            keys,
            required: config.required,
        })
    }

    /// Checks the signature of a model whose ONNX file has the digest in `manifest`. Without trusted keys, signatures
    /// are kept and not verified.
    ///
    /// # Errors
    /// [`PublishError::Unsigned`] if a signature is required, and [`PublishError::Signature`].
    pub(super) fn check(
        &self,
        manifest: &ArtifactManifest,
        signed: Option<&SignedManifest>,
    ) -> Result<(), PublishError> {
        let Some(SignedManifest { json, signature }) = signed else {
            return match self.required {
                true => Err(PublishError::Unsigned),
                false => Ok(()),
            };
        };
        if self.keys.is_empty() {
            return Ok(());
        }
        let files = ModelFiles::published(manifest.onnx.sha256.clone(), json);
        Ok(model_signing::verify(signature, &files, &self.keys)?)
    }
}
