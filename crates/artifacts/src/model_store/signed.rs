//! Versions with a signature.

/// Name of the signature in the folder of a version.
pub(super) const SIGNATURE_FILE: &str = "model.sig";

/// The signature of a model, and the manifest that it covers. The ONNX file, which it covers too, has its digest in
/// the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// `manifest.json`, byte for byte as it was signed.
    pub json: Vec<u8>,
    /// `model.sig`; see the crate `model-signing`.
    pub signature: Vec<u8>,
}
