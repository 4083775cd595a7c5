//! Errors of inference and publishing, independent of the protocol. `grpc` and `http` convert them to responses.

mod reason;

use artifacts::{
    manifest::ManifestError,
    model_store::{InvalidModelName, ModelName, StoreError},
};
use common::digest::Sha256;
use model_signing::SignatureError;
use onnx_runtime::{ModelError, SessionError};

pub use reason::Reason;

/// Why a request for inference, or about a model, fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// No version of the model serves.
    #[error("no model `{model}` is being served")]
    NoSuchModel {
        /// The requested name, truncated.
        model: String,
    },
    /// The model serves, but not with this version.
    #[error("model `{model}`: version `{requested}` is not being served; being served: {serving}")]
    NoSuchVersion {
        /// The model.
        model: String,
        /// The requested version, truncated.
        requested: String,
        /// The versions that serve.
        serving: String,
    },
    /// The model exists, but no version of it is loaded.
    #[error("no version of model `{model}` is loaded")]
    NotLoaded {
        /// The model.
        model: String,
    },
    /// A field of the request is invalid.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the field in the request's message.
        field: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// An image cannot be used.
    #[error("images[{index}]: {problem}")]
    Image {
        /// Index of the image in the request.
        index: usize,
        /// The problem.
        problem: String,
    },
    /// A decoder thread panicked; the log has the message.
    #[error("internal error while decoding an image; see the service's log")]
    DecoderFailed,
    /// The queue is full.
    #[error("the queue is full: {capacity} requests are waiting; try again later")]
    QueueFull {
        /// See `batching.max_queue_size`.
        capacity: usize,
    },
    /// The deadline has passed.
    #[error("the deadline passed before the request was computed")]
    DeadlineExceeded,
    /// The model failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A session thread of the model panicked; the log has the message.
    #[error("a session thread of model `{model}` panicked; see the service's log")]
    WorkerStopped {
        /// The model.
        model: ModelName,
    },
}

/// Why a publish, or a change of versions, fails.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The model name of a request is invalid.
    #[error("model_name: {0}")]
    ModelName(#[from] InvalidModelName),
    /// The messages of an upload are in the wrong order.
    #[error("upload: {0}")]
    Upload(&'static str),
    /// The upload took too long to arrive.
    #[error("upload: it did not arrive within {seconds} s (publish.upload_timeout_seconds)")]
    UploadTimedOut {
        /// See `publish.upload_timeout_seconds`.
        seconds: u64,
    },
    /// The digest in the header is invalid.
    #[error("header.sha256: must be 64 lower-case hex digits")]
    DigestFormat,
    /// The file or the manifest is too large.
    #[error("{field}: {found} bytes; at most {allowed} are allowed")]
    TooLarge {
        /// The header's field.
        field: &'static str,
        /// Its size.
        found: u64,
        /// The limit.
        allowed: usize,
    },
    /// The size of the upload differs from that in the header.
    #[error("upload: {received} bytes arrived, header.size is {expected}")]
    Size {
        /// Bytes that arrived.
        received: u64,
        /// `header.size`.
        expected: u64,
    },
    /// The digest of the upload differs from that in the header.
    #[error("header.sha256: is {expected}, but the SHA-256 of the uploaded file is {found}")]
    Digest {
        /// `header.sha256`.
        expected: Sha256,
        /// The digest of the received file.
        found: Sha256,
    },
    /// The manifest is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A canary's share of the requests is out of range.
    #[error("header.canary_share: is {found}, must be from 0 to {allowed}")]
    CanaryShare {
        /// `header.canary_share`.
        found: f64,
        /// The largest share.
        allowed: f64,
    },
    /// A canary is no replacement for the active version.
    #[error(
        "manifest: {field}: differs from that of the active version {active}, whose callers a canary answers; \
         publish with the share 0 (`retort models publish --canary 0%`) to replace that version at once"
    )]
    CanaryDiffers {
        /// The manifest's field.
        field: &'static str,
        /// The active version.
        active: u64,
    },
    /// The manifest does not match the model.
    #[error("manifest: {field}: {problem}")]
    ManifestMismatch {
        /// The manifest's field.
        field: &'static str,
        /// The difference.
        problem: String,
    },
    /// The model has no signature, and the service requires one.
    #[error(
        "the model is not signed, and the service requires a signature (signatures.required); sign it \
         (`retort models publish --signing-key`, or publish.signing_key of its run)"
    )]
    Unsigned,
    /// The model's signature is not accepted.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The model failed the checks before loading.
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
    /// The model's logits differ from the golden batch.
    #[error(
        "golden batch: sample {sample}, class {class}: the model gives {found}, the manifest says \
         {expected} (tolerance {tolerance})"
    )]
    GoldenBatch {
        /// Index of the sample.
        sample: usize,
        /// Index of the logit.
        class: usize,
        /// The model's logit.
        found: f32,
        /// The manifest's logit.
        expected: f32,
        /// The largest permitted difference.
        tolerance: f32,
    },
    /// The model does not fit into memory beside the loaded models.
    #[error(
        "the model needs about {needed} bytes of memory; loaded models take {loaded} of the \
         {allowed} that memory.max_model_bytes allows"
    )]
    Memory {
        /// Estimated memory of all sessions of the model.
        needed: u64,
        /// Estimated memory of the loaded versions.
        loaded: u64,
        /// See `memory.max_model_bytes`.
        allowed: u64,
    },
    /// The active version cannot be deleted.
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
    /// The store has no version of the model.
    #[error("model `{model}` has no version in the store")]
    NothingStored {
        /// The model.
        model: ModelName,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A background task panicked, or a thread could not be started; the log has the reason.
    #[error("internal error while handling the model; see the service's log")]
    Internal,
}

impl InferenceError {
    /// The machine-readable reason, which also determines the status codes.
    pub fn reason(&self) -> Reason {
        use InferenceError as I;
        match self {
            I::NoSuchModel { .. } => Reason::ModelNotFound,
            I::NoSuchVersion { .. } => Reason::VersionNotFound,
            I::NotLoaded { .. } => Reason::ModelNotLoaded,
            I::Invalid { .. } => Reason::InvalidRequest,
            I::Image { .. } => Reason::InvalidImage,
            I::QueueFull { .. } => Reason::QueueFull,
            I::DeadlineExceeded => Reason::DeadlineExceeded,
            I::Session(_) => Reason::InferenceFailed,
            I::WorkerStopped { .. } => Reason::WorkerStopped,
            I::DecoderFailed => Reason::Internal,
        }
    }
}

impl PublishError {
    /// The machine-readable reason, which also determines the status codes.
    pub fn reason(&self) -> Reason {
        use PublishError as P;
        match self {
            P::ModelName(_) => Reason::InvalidModelName,
            P::Upload(_) | P::Size { .. } | P::CanaryShare { .. } => Reason::InvalidUpload,
            P::UploadTimedOut { .. } => Reason::UploadTimedOut,
            P::DigestFormat => Reason::InvalidDigest,
            P::TooLarge { .. } => Reason::TooLarge,
            P::Digest { .. } => Reason::DigestMismatch,
            P::Manifest(_) => Reason::InvalidManifest,
            P::ManifestMismatch { .. } | P::CanaryDiffers { .. } => Reason::ManifestMismatch,
            P::Unsigned => Reason::SignatureMissing,
            P::Signature(_) => Reason::SignatureRefused,
            P::Model(_) => Reason::ModelRefused,
            P::Session(SessionError::Library(_)) => Reason::OnnxRuntimeMissing,
            P::Session(_) => Reason::ModelUnusable,
            P::LoadTimedOut { .. } => Reason::LoadTimedOut,
            P::GoldenBatch { .. } => Reason::GoldenBatchDisagrees,
            P::Memory { .. } => Reason::MemoryLimit,
            P::VersionActive { .. } => Reason::VersionActive,
            P::NothingStored { .. } | P::Store(StoreError::NoSuchModel { .. }) => {
                Reason::ModelNotFound
            }
            P::Store(StoreError::NoSuchVersion { .. }) => Reason::VersionNotFound,
            P::Store(StoreError::Changed { .. }) => Reason::ModelChanged,
            P::Store(StoreError::ReadOnly) => Reason::StoreReadOnly,
            P::Store(StoreError::Unavailable { .. }) => Reason::StoreUnavailable,
            P::Store(
                StoreError::InUse { .. }
                | StoreError::Io { .. }
                | StoreError::Manifest { .. }
                | StoreError::Corrupt { .. },
            ) => Reason::StoreFailed,
            P::Internal => Reason::Internal,
        }
    }
}
