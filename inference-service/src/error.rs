//! Why a call is refused, and which codes say so.

mod reason;

use artifacts::{
    manifest::ManifestError,
    model_store::{InvalidModelName, ModelName, StoreError},
};
use common::digest::Sha256;
use onnx_runtime::{ModelError, SessionError};
use server::grpc::status;
use tonic::Status;

pub use crate::{grpc::GrpcError, http::HttpError};
pub use reason::Reason;

/// Why a request for inference, or about a model, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// No version of the model serves.
    #[error("no model `{model}` is being served")]
    NoSuchModel {
        /// The name asked for, cut to a sensible length.
        model: String,
    },
    /// Other versions of the model serve.
    #[error("model `{model}`: version `{requested}` is not being served; being served: {serving}")]
    NoSuchVersion {
        /// The model.
        model: String,
        /// The version asked for, cut to a sensible length.
        requested: String,
        /// The versions that serve.
        serving: String,
    },
    /// The model is there, but none of its versions is loaded.
    #[error("no version of model `{model}` is loaded at present")]
    NotLoaded {
        /// The model.
        model: String,
    },
    /// A field of the request cannot be used.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the field in the request's message.
        field: String,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// An image cannot be used.
    #[error("images[{index}]: {problem}")]
    Image {
        /// Which of the request's images.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A thread that decodes images ended by a fault; the log says why.
    #[error("the service failed while it decoded an image; its log says why")]
    DecoderFailed,
    /// As many requests wait as may.
    #[error("the queue is full: {capacity} requests are waiting; try again later")]
    QueueFull {
        /// See `batching.max_queue_size`.
        capacity: usize,
    },
    /// The caller's time is up.
    #[error("the deadline passed before the request was computed")]
    DeadlineExceeded,
    /// The model failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The model's thread ended by a fault; the log says why.
    #[error("the thread of model `{model}` stopped by a fault")]
    WorkerStopped {
        /// The model.
        model: ModelName,
    },
}

/// Why a publish, or a change of versions, is refused.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The header's name, or that of another request.
    #[error("model_name: {0}")]
    ModelName(#[from] InvalidModelName),
    /// The stream does not follow the protocol.
    #[error("upload: {0}")]
    Upload(&'static str),
    /// The upload took too long to arrive.
    #[error("upload: it did not arrive within {seconds} s (publish.upload_timeout_seconds)")]
    UploadTimedOut {
        /// See `publish.upload_timeout_seconds`.
        seconds: u64,
    },
    /// The header's digest.
    #[error("header.sha256: must be 64 lower-case hex digits")]
    DigestFormat,
    /// The file, or the manifest, is larger than allowed.
    #[error("{field}: {found} bytes; at most {allowed} are allowed")]
    TooLarge {
        /// Which.
        field: &'static str,
        /// Its size.
        found: u64,
        /// The limit.
        allowed: usize,
    },
    /// Other bytes arrived than the header promised.
    #[error("upload: {received} bytes arrived, header.size is {expected}")]
    Size {
        /// Bytes that arrived.
        received: u64,
        /// `header.size`.
        expected: u64,
    },
    /// Other bytes arrived than the header promised.
    #[error("header.sha256: is {expected}, but the SHA-256 of the uploaded file is {found}")]
    Digest {
        /// `header.sha256`.
        expected: Sha256,
        /// That of what arrived.
        found: Sha256,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest speaks of another model.
    #[error("manifest: {field}: {problem}")]
    ManifestMismatch {
        /// Its field.
        field: &'static str,
        /// What the model says.
        problem: String,
    },
    /// The model is not fit to be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Loading took too long.
    #[error("the model was not loaded and checked within {seconds} s")]
    LoadTimedOut {
        /// See `publish.load_timeout_seconds`.
        seconds: u64,
    },
    /// The model answers otherwise than the exporter said.
    #[error(
        "golden batch: image {image}, class {class}: the model gives {found}, the manifest says \
         {expected} (tolerance {tolerance})"
    )]
    GoldenBatch {
        /// Index of the image.
        image: usize,
        /// Index of the logit.
        class: usize,
        /// What the model gives.
        found: f32,
        /// What the manifest says.
        expected: f32,
        /// The manifest's tolerance.
        tolerance: f32,
    },
    /// The loaded models take too much memory for another one.
    #[error(
        "the model needs about {needed} bytes of memory; loaded models take {loaded} of the \
         {allowed} that memory.max_model_bytes allows"
    )]
    Memory {
        /// Estimated for the model, all its sessions.
        needed: u64,
        /// Estimated for the versions that are loaded.
        loaded: u64,
        /// See `memory.max_model_bytes`.
        allowed: u64,
    },
    /// The version that serves cannot be deleted.
    #[error(
        "model `{model}`: version {version} is active; activate another one before deleting it, or \
         delete the model with all its versions (`retort models delete {model} --all`)"
    )]
    VersionActive {
        /// The model.
        model: ModelName,
        /// The version.
        version: u64,
    },
    /// There is no version of the model.
    #[error("model `{model}` has no version in the store")]
    NothingStored {
        /// The model.
        model: ModelName,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A background task ended by a fault; the log says why.
    #[error("the service failed while it handled the model; its log says why")]
    Internal,
}

/// Every error of the service's edge.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Of the inference protocol.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// Of publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Of gRPC.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
    /// Of HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let reason = Reason::of(&error);
        status(reason.grpc_code(), reason.name(), error.to_string())
    }
}

impl From<InferenceError> for Status {
    fn from(error: InferenceError) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<PublishError> for Status {
    fn from(error: PublishError) -> Self {
        ServiceError::from(error).into()
    }
}

impl InferenceError {
    /// The machine-readable reason, as in the details of a gRPC status.
    pub fn reason(&self) -> &'static str {
        Reason::of_inference(self).name()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn a_status_has_the_code_the_text_and_the_reason() {
        let status = Status::from(InferenceError::QueueFull { capacity: 7 });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(
            status.message().contains("7 requests"),
            "{}",
            status.message()
        );
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("QUEUE_FULL", "retort")
        );
    }
}
