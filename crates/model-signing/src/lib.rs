//! Signatures of models in the format of OpenSSF's model-signing 1.x, made and verified with elliptic-curve keys.
//!
//! `model.sig` is a Sigstore bundle (`bundle.rs`) whose signed content is an in-toto statement (`statement.rs`) with
//! the SHA-256 of every file. The Python package `model-signing` verifies what this crate signs, and the reverse:
//!
//! ```text
//! model_signing verify key FOLDER --signature FOLDER/model.sig --public_key key.pub
//! model_signing sign key FOLDER --signature FOLDER/model.sig --private_key key.pem
//! ```
//!
//! Specification: <https://github.com/sigstore/model-transparency> (`docs/model_signing_format.md`).

mod bundle;
mod files;
mod keys;
mod statement;

use std::{borrow::Cow, ffi::OsStr, io, path::Path};

use common::{atomic_file, digest::Sha256};
use serde::de::DeserializeOwned;

pub use files::{FilesError, ModelFiles};
pub use keys::{InvalidKey, KeyFileError, SigningKey, TrustedKeys};

use bundle::Bundle;
use statement::Statement;

/// Name of the signature in the folder of a model.
pub const SIGNATURE_FILE: &str = "model.sig";

/// Largest signature that is verified. One of a model of two files takes about 2 KiB.
pub const MAX_SIGNATURE_BYTES: usize = 256 << 10;

/// Most characters of a foreign text that a message shows.
const SHOWN: usize = 100;

/// Why a folder was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A file cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The operating system gives no random numbers.
    #[error("cannot sign: the operating system gives no random numbers")]
    NoRandomness,
    /// The signature cannot be written; the text names the file.
    #[error(transparent)]
    Write(io::Error),
}

/// Why a signature is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature is too large.
    #[error("the signature: {bytes} bytes; at most {MAX_SIGNATURE_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are not a signature in this format.
    #[error("the signature: is damaged or in another format: {problem}")]
    Malformed {
        /// The problem.
        problem: String,
    },
    /// The signature has a form that this crate does not verify.
    #[error("the signature: {field} is `{found}`, and only `{supported}` is supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The only supported value.
        supported: &'static str,
    },
    /// The signature was made with a key that is not trusted.
    #[error("the signature: no trusted key made it; it names the public key {key}")]
    Untrusted {
        /// SHA-256 of the public key in PEM, as the signature has it.
        key: String,
    },
    /// The signature does not belong to its content.
    #[error(
        "the signature: does not fit its content, which was changed, or signed with another key"
    )]
    Mismatch,
    /// The signature does not name a file.
    #[error("the signature: does not cover the file {file}")]
    NotCovered {
        /// The file.
        file: String,
    },
    /// A file differs from the signed one.
    #[error("the signature: {file} was changed: its SHA-256 is {found}, and {signed} was signed")]
    Changed {
        /// The file.
        file: String,
        /// Its digest.
        found: Sha256,
        /// The signed digest.
        signed: Sha256,
    },
}

/// Signs `files` as the model `name`; returns the content of `model.sig`.
///
/// # Errors
/// [`SigningError::NoRandomness`].
pub fn sign(name: &str, files: &ModelFiles, key: &SigningKey) -> Result<Vec<u8>, SigningError> {
    let statement = Statement::of(name, files).to_json();
    let signature = key.sign(&bundle::pre_authentication_encoding(&statement));
    let signature = signature.ok_or(SigningError::NoRandomness)?;
    Ok(Bundle::of(key.public().fingerprint(), &statement, &signature).to_json())
}

/// Signs the files in `folder`, but not those in folders below it, and writes `model.sig` there; returns its content.
///
/// # Errors
/// See [`SigningError`]; an older signature remains.
pub fn sign_folder(folder: &Path, key: &SigningKey) -> Result<Vec<u8>, SigningError> {
    // Only for people: the folder may be `.`.
    let name = folder.file_name();
    let name = name.map_or(Cow::Borrowed("model"), OsStr::to_string_lossy);
    let signature = sign(&name, &ModelFiles::in_folder(folder)?, key)?;
    atomic_file::write(&folder.join(SIGNATURE_FILE), &signature).map_err(SigningError::Write)?;
    Ok(signature)
}

/// Checks that one of `keys` made `signature` and that it covers every file of `files` with its digest. The signature
/// may cover further files: an upload does not contain all files of a model's folder.
///
/// # Errors
/// See [`SignatureError`]. Nothing in `signature` is trusted before its key is verified.
pub fn verify(
    signature: &[u8],
    files: &ModelFiles,
    keys: &TrustedKeys,
) -> Result<(), SignatureError> {
    if signature.len() > MAX_SIGNATURE_BYTES {
        let bytes = signature.len();
        return Err(SignatureError::TooLarge { bytes });
    }
    let statement = Bundle::from_json(signature)?.verified_statement(keys)?;
    Statement::from_json(&statement)?.check(files)
}

/// Reads JSON. Fields that are not in `T` are skipped, however deep they nest, without memory or stack for them.
fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, SignatureError> {
    serde_json::from_slice(json).map_err(|error| malformed(&error.to_string()))
}

fn malformed(problem: &str) -> SignatureError {
    SignatureError::Malformed {
        problem: shown(problem),
    }
}

/// Fails unless the text `found` is `supported`.
fn require(
    field: &'static str,
    found: &str,
    supported: &'static str,
) -> Result<(), SignatureError> {
    if found == supported {
        return Ok(());
    }
    Err(SignatureError::Unsupported {
        field,
        found: shown(found),
        supported,
    })
}

/// The beginning of a foreign text.
fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
