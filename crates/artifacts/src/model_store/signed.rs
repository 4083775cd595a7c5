//! Versions with a signature.

use common::folders;

use super::{
    MANIFEST_FILE, MODEL_FILE, ModelName, ModelStore, StoreError, io_error, read_if_present,
};

const SIGNATURE_FILE: &str = "model.sig";

/// The signature of a model, and the manifest that it covers. The ONNX file, which it covers too, has its digest in
/// the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// `manifest.json`, byte for byte as it was signed.
    pub json: Vec<u8>,
    /// `model.sig`; see the crate `model-signing`.
    pub signature: Vec<u8>,
}

impl ModelStore {
    /// The signature of a committed version, if it is signed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn signed_manifest(
        &self,
        model: &ModelName,
        version: u64,
    ) -> Result<Option<SignedManifest>, StoreError> {
        let folder = self.version_folder(model, version);
        let Some(signature) = read_if_present(&folder.join(SIGNATURE_FILE))? else {
            return Ok(None);
        };
        let manifest = folder.join(MANIFEST_FILE);
        let json = folders::read(&manifest).map_err(io_error(&manifest))?;
        Ok(Some(SignedManifest { json, signature }))
    }

    /// Stores a new, signed version of `model` and returns its number. The manifest is stored as it was signed.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    pub fn commit_signed(
        &self,
        model: &ModelName,
        onnx: &[u8],
        SignedManifest { json, signature }: &SignedManifest,
    ) -> Result<u64, StoreError> {
        let files = [
            (MODEL_FILE, onnx),
            (SIGNATURE_FILE, signature.as_slice()),
            (MANIFEST_FILE, json.as_slice()),
        ];
        self.commit_files(model, &files)
    }
}
