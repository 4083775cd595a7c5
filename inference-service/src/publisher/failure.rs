//! Classifies failures to load a version: transient or permanent.

use artifacts::model_store::StoreError;
use onnx_runtime::SessionError;

use crate::{catalog::LoadFailure, error::PublishError};

impl From<&PublishError> for LoadFailure {
    fn from(error: &PublishError) -> Self {
        Self {
            reason: error.to_string(),
            transient: is_transient(error),
        }
    }
}

/// Whether another attempt to load the same version may succeed without a change by an operator.
fn is_transient(error: &PublishError) -> bool {
    match error {
        PublishError::LoadTimedOut { .. }
        | PublishError::Memory { .. }
        | PublishError::Store(StoreError::Io { .. } | StoreError::Unavailable { .. })
        // The system refused a thread, or a thread panicked.
        | PublishError::Internal => true,
        PublishError::Session(error) => match error {
            SessionError::Load(message) | SessionError::Run(message) => {
                is_out_of_memory(message)
            },
            SessionError::Interrupted => true,
            SessionError::Library(_)
            | SessionError::Interface { .. }
            | SessionError::InputSize { .. } => false,
        },
        PublishError::Store(
            StoreError::InUse { .. }
            | StoreError::ReadOnly
            | StoreError::Changed { .. }
            | StoreError::NoSuchModel { .. }
            | StoreError::NoSuchVersion { .. }
            | StoreError::Manifest { .. }
            | StoreError::Corrupt { .. },
        )
        | PublishError::ModelName(_)
        | PublishError::Upload(_)
        | PublishError::UploadTimedOut { .. }
        | PublishError::DigestFormat
        | PublishError::TooLarge { .. }
        | PublishError::Size { .. }
        | PublishError::Digest { .. }
        | PublishError::Manifest(_)
        | PublishError::CanaryShare { .. }
        | PublishError::CanaryDiffers { .. }
        | PublishError::ManifestMismatch { .. }
        | PublishError::Unsigned
        | PublishError::Signature(_)
        | PublishError::Model(_)
        | PublishError::GoldenBatch { .. }
        | PublishError::VersionActive { .. }
        | PublishError::NothingStored { .. } => false,
    }
}

/// Recognizes the messages of ONNX Runtime, which has no error code for this: "std::bad_alloc", "Failed to
/// allocate memory for requested buffer of size …".
fn is_out_of_memory(message: &str) -> bool {
    message.contains("bad_alloc") || message.contains("allocate memory")
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use super::*;

    #[test]
    fn transient_failures_are_recognized() {
        let path = || PathBuf::from("m/1/model.onnx");
        let io = io::Error::other("disk");
        let (problem, out_of_memory) = ("digest".to_owned(), "std::bad_alloc".to_owned());
        for (error, transient) in [
            (PublishError::LoadTimedOut { seconds: 1 }, true),
            (
                StoreError::Io {
                    path: path(),
                    source: io,
                }
                .into(),
                true,
            ),
            (SessionError::Load(out_of_memory).into(), true),
            (SessionError::Load("opset 99".to_owned()).into(), false),
            (
                StoreError::Corrupt {
                    path: path(),
                    problem,
                }
                .into(),
                false,
            ),
        ] {
            assert_eq!(is_transient(&error), transient, "{error}");
        }
    }
}
