//! The model store: every published version of every model, in a folder or in a bucket.
//!
//! A committed version never changes. Its `manifest.json` is written last and marks the commit; readers skip a
//! version without it. `active.json` names the version that serves.
//!
//! [`FolderStore`] has Triton's folder layout, one writer and any number of readers. [`BucketStore`] is in an object
//! store, where any number of processes read and write.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use object_storage::{BucketError, Location};
use serde::Deserialize;
use tracing::warn;

use crate::manifest::{ArtifactManifest, ManifestError};

mod active_version;
mod bucket;
mod export;
mod folder;
mod model_name;
mod signed;
#[cfg(test)]
mod test_model;

pub use active_version::ActiveVersion;
pub use bucket::BucketStore;
pub use export::{ExportTarget, Exported};
pub use folder::FolderStore;
pub use model_name::{InvalidModelName, ModelName};
pub use signed::SignedManifest;

/// Names of files in a store in a folder; those of a bucket have the last two.
const MODEL_FILE: &str = "model.onnx";
const MANIFEST_FILE: &str = "manifest.json";
const ACTIVE_FILE: &str = "active.json";

/// An open model store. Methods block while they wait for the disk or the network, so async code calls them on a
/// blocking thread.
pub trait ModelStore: fmt::Debug + Send + Sync {
    /// Lists the models, by name.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn models(&self) -> Result<Vec<ModelName>, StoreError>;

    /// The numbers of the committed versions of `model` in ascending order. Does not read the manifests. An unknown
    /// model has none.
    ///
    /// # Errors
    /// If the versions cannot be listed.
    fn version_numbers(&self, model: &ModelName) -> Result<Vec<u64>, StoreError>;

    /// The manifest of a committed version.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`], or if it cannot be read.
    fn manifest(&self, model: &ModelName, version: u64) -> Result<ArtifactManifest, StoreError>;

    /// The manifest of a committed version, and its signature if it is signed. The manifest is read once, so it is the
    /// one that the signature is checked with.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`], or if one of the two cannot be read.
    fn signed_manifest(
        &self,
        model: &ModelName,
        version: u64,
    ) -> Result<(ArtifactManifest, Option<SignedManifest>), StoreError>;

    /// Reads the ONNX file of a committed version and compares its digest with `manifest`.
    ///
    /// # Errors
    /// If the file cannot be read or has another digest.
    fn onnx(
        &self,
        model: &ModelName,
        version: u64,
        manifest: &ArtifactManifest,
    ) -> Result<Vec<u8>, StoreError>;

    /// The active version of `model`; `None` before the first activation.
    ///
    /// # Errors
    /// If `active.json` cannot be read.
    fn active(&self, model: &ModelName) -> Result<Option<ActiveVersion>, StoreError>;

    /// What readers follow: the state of every model that has a committed version.
    ///
    /// # Errors
    /// If the models cannot be listed.
    fn states(&self) -> Result<BTreeMap<ModelName, ModelState>, StoreError>;

    /// Whether other processes may change the store while it is open.
    fn is_shared(&self) -> bool;

    /// Checks that this process may change the store.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`].
    fn check_writable(&self) -> Result<(), StoreError>;

    /// Stores a new version of `model` without a signature and returns its number. The active version does not change.
    ///
    /// # Errors
    /// If it cannot be written; readers see nothing of the version. A [`StoreError::Unavailable`] leaves open
    /// whether the version was committed.
    fn commit(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
    ) -> Result<u64, StoreError>;

    /// Stores a new, signed version of `model` and returns its number. The manifest is stored as it was signed.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    fn commit_signed(
        &self,
        model: &ModelName,
        onnx: &[u8],
        signed: &SignedManifest,
    ) -> Result<u64, StoreError>;

    /// Stores a new version of `model`, as it was signed if it is signed, and returns its number.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    fn commit_upload(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
        signed: Option<&SignedManifest>,
    ) -> Result<u64, StoreError> {
        match signed {
            Some(signed) => self.commit_signed(model, onnx, signed),
            None => self.commit(model, onnx, manifest),
        }
    }

    /// Stores a new version of `model` for a trial beside the active version, and counts it as one that served, see
    /// [`note_served`](Self::note_served). If the model is signed, the manifest is stored as it was signed. Returns
    /// the version's number.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit) and [`note_served`](Self::note_served).
    fn commit_canary(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
        signed: Option<&SignedManifest>,
    ) -> Result<u64, StoreError> {
        let version = self.commit_upload(model, onnx, manifest, signed)?;
        self.note_served(model, version)?;
        Ok(version)
    }

    /// Counts `version`, which is not active, as one that served: a restart then does not take it for a version whose
    /// publish was interrupted. Does nothing if no version of `model` was ever active.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if another writer changed the active version at the same time; or if `active.json`
    /// cannot be replaced.
    fn note_served(&self, model: &ModelName, version: u64) -> Result<(), StoreError>;

    /// Makes `version` the active version, also after a restart, if the active version is still `before`. Does
    /// nothing if `version` is active already.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`]; [`StoreError::Changed`] if another writer changed the active version; or if
    /// `active.json` cannot be replaced.
    fn replace_active(
        &self,
        model: &ModelName,
        version: u64,
        before: Option<ActiveVersion>,
    ) -> Result<(), StoreError>;

    /// Removes a committed version. The caller ensures that the version does not serve.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`], or if it cannot be removed.
    fn delete(&self, model: &ModelName, version: u64) -> Result<(), StoreError>;

    /// Removes a model with all its versions. Returns the committed versions that it had.
    ///
    /// # Errors
    /// [`StoreError::NoSuchModel`], or if it cannot be removed; the model is complete then.
    fn delete_model(&self, model: &ModelName) -> Result<Vec<u64>, StoreError>;

    /// Finds the newest committed version of `model` with the same ONNX file and the same `manifest`. The
    /// provenance is ignored, because it does not affect a model's answers. A version with a damaged manifest
    /// is skipped.
    ///
    /// # Errors
    /// If the versions cannot be listed, or the store does not answer.
    fn find(
        &self,
        model: &ModelName,
        manifest: &ArtifactManifest,
    ) -> Result<Option<u64>, StoreError> {
        newest_equal(self, model, manifest)
    }

    /// Makes `version` the active version, whichever is active now.
    ///
    /// # Errors
    /// Those of [`replace_active`](Self::replace_active).
    fn activate(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        self.replace_active(model, version, self.active(model)?)
    }

    /// Lists the committed versions of `model`, oldest first. An unknown model has none.
    ///
    /// # Errors
    /// If the versions cannot be listed, or the store does not answer.
    fn versions(&self, model: &ModelName) -> Result<Vec<StoredVersion>, StoreError> {
        let mut versions = Vec::new();
        for version in self.version_numbers(model)? {
            versions.extend(self.stored(model, version)?);
        }
        Ok(versions)
    }

    /// A committed version of `model`, if it exists. A damaged manifest is logged; the version is returned without
    /// it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn stored(&self, model: &ModelName, version: u64) -> Result<Option<StoredVersion>, StoreError> {
        let manifest = match self.manifest(model, version) {
            Ok(manifest) => Some(manifest),
            Err(StoreError::NoSuchVersion { .. }) => return Ok(None),
            Err(error @ StoreError::Unavailable { .. }) => return Err(error),
            Err(error) => {
                warn!(%model, version, "the version is damaged: {error}");
                None
            }
        };
        Ok(Some(StoredVersion { version, manifest }))
    }
}

/// Whether a process changes the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// The process reads and writes.
    ReadWrite,
    /// The process only reads.
    ReadOnly,
}

/// How a process uses a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Whether the process changes the store.
    pub access: Access,
    /// Folder for copies of the models in a bucket.
    pub cache: PathBuf,
    /// Limit of the copies together, bytes.
    pub max_cache_bytes: u64,
    /// How long a request to a bucket is repeated if it fails, or waits for an answer.
    pub patience: Duration,
}

/// Opens the store at `location`.
///
/// # Errors
/// Those of [`FolderStore::open`] and [`BucketStore::open`].
pub fn open(
    location: &Location,
    options: &StoreOptions,
) -> Result<Box<dyn ModelStore>, StoreError> {
    let store: Box<dyn ModelStore> = match (location, options.access) {
        (Location::Folder(root), Access::ReadWrite) => Box::new(FolderStore::open(root)?),
        (Location::Folder(root), Access::ReadOnly) => Box::new(FolderStore::read_only(root)),
        (Location::Bucket(location), _) => Box::new(BucketStore::open(location, options)?),
    };
    Ok(store)
}

/// A committed version in the store.
#[derive(Debug, Clone)]
pub struct StoredVersion {
    /// Number of the version, from 1; each publish adds 1.
    pub version: u64,
    /// The manifest of the model; `None` if it is damaged.
    pub manifest: Option<ArtifactManifest>,
}

/// What a reader compares to notice that another process changed a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelState {
    /// Another text for every other content of `active.json`: in a bucket its ETag. `None` without the file.
    pub active: Option<String>,
    /// The committed versions in ascending order.
    pub versions: Vec<u64>,
}

/// Why an operation on the store failed; the message names the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to the folder.
    #[error(
        "the model store {} is in use by another process; a second one can only read it \
         (model_store.access = \"read_only\")",
        root.display()
    )]
    InUse {
        /// The store's folder.
        root: PathBuf,
    },
    /// This process only reads the store.
    #[error("the model store is open for reading only (model_store.access = \"read_only\")")]
    ReadOnly,
    /// An I/O error.
    #[error("model store: {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bucket does not answer, or rejects the request.
    #[error("model store: {url}: {source}")]
    Unavailable {
        /// The object or the prefix.
        url: String,
        /// The cause.
        source: object_store::Error,
    },
    /// Another writer changed the model at the same time.
    #[error("model `{model}` was changed by another writer at the same time; try again")]
    Changed {
        /// The model.
        model: ModelName,
    },
    /// There is no such model.
    #[error("model `{model}` is not in the store")]
    NoSuchModel {
        /// The model.
        model: ModelName,
    },
    /// There is no such committed version.
    #[error("model `{model}` has no version {version} in the store")]
    NoSuchVersion {
        /// The model.
        model: ModelName,
        /// The version asked for.
        version: u64,
    },
    /// A stored manifest is invalid.
    #[error("model store: {}: {source}", path.display())]
    Manifest {
        /// The manifest's file.
        path: PathBuf,
        /// The cause.
        source: ManifestError,
    },
    /// A stored file differs from the committed one.
    #[error("model store: {}: {problem}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
}

impl From<BucketError> for StoreError {
    fn from(BucketError { url, source }: BucketError) -> Self {
        Self::Unavailable { url, source }
    }
}

impl StoreError {
    /// Whether a stored file is missing or damaged, so that a retry cannot succeed.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Manifest { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::InUse { .. }
            | Self::ReadOnly
            | Self::Unavailable { .. }
            | Self::Changed { .. }
            | Self::NoSuchModel { .. }
            | Self::NoSuchVersion { .. } => false,
        }
    }
}

/// Parses a version number: digits without a sign or leading zeros.
pub fn parse_version(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|version: &u64| *version > 0 && version.to_string() == text)
}

/// [`ModelStore::find`] by reading the manifests of all versions, newest first.
fn newest_equal<S: ModelStore + ?Sized>(
    store: &S,
    model: &ModelName,
    manifest: &ArtifactManifest,
) -> Result<Option<u64>, StoreError> {
    for version in store.version_numbers(model)?.into_iter().rev() {
        match store.manifest(model, version) {
            Ok(mut stored) => {
                stored.provenance.clone_from(&manifest.provenance);
                if stored == *manifest {
                    return Ok(Some(version));
                }
            }
            Err(error @ StoreError::Unavailable { .. }) => return Err(error),
            Err(error) => warn!(%model, version, "skipped: {error}"),
        }
    }
    Ok(None)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    |source| StoreError::Io { path, source }
}
