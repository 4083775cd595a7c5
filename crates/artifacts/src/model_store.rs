//! The model store: every published version of every model, in Triton's folder layout.
//!
//! ```text
//! <root>/<model>/<version>/model.onnx
//!                         /model.sig       if the model is signed
//!                         /manifest.json   written last: the commit mark
//!               /active.json               the version that serves
//!       /.deleted.json                      the newest version of each deleted model
//! ```
//!
//! A committed version never changes. A version folder without a manifest is half-written: readers skip it, and
//! [`ModelStore::open`] removes it.
//!
//! Folders of models and versions may be links or mounts (see [`folders`]). A version is written within its own
//! folder, so files never move between file systems.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::manifest::{ArtifactManifest, ManifestError};
use common::{atomic_file, digest::Sha256, file_lock::FileLock, folders};

mod deletion;
mod model_name;
mod signed;

pub use model_name::{InvalidModelName, ModelName};
pub use signed::SignedManifest;

const MODEL_FILE: &str = "model.onnx";
const MANIFEST_FILE: &str = "manifest.json";
const ACTIVE_FILE: &str = "active.json";
const LOCK_FILE: &str = ".lock";
const ACTIVE_FORMAT_VERSION: u32 = 1;

/// An open model store. One process at a time can open a store.
#[derive(Debug)]
pub struct ModelStore {
    root: PathBuf,
    _lock: FileLock,
}

/// A committed version in the store.
#[derive(Debug, Clone)]
pub struct StoredVersion {
    /// Number of the version, from 1; each publish adds 1.
    pub version: u64,
    /// The manifest of the model; `None` if it is damaged.
    pub manifest: Option<ArtifactManifest>,
}

/// The content of `active.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveVersion {
    format_version: u32,
    /// The version that serves.
    pub version: u64,
    /// The newest version that ever served. A newer one in the store was committed by a publish that was
    /// interrupted before the activation.
    pub newest_served: u64,
}

/// Why an operation on the store failed; the message names the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("the model store {} is in use by another process", root.display())]
    InUse {
        /// The store's folder.
        root: PathBuf,
    },
    /// An I/O error.
    #[error("model store: {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
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

impl StoreError {
    /// Whether a stored file is missing or damaged, so that a retry cannot succeed.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Manifest { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::InUse { .. } | Self::NoSuchModel { .. } | Self::NoSuchVersion { .. } => false,
        }
    }
}

impl ModelStore {
    /// Opens the store in `root`, creates the folder if necessary, and removes half-written versions.
    ///
    /// # Errors
    /// If another process has the store open, or the folder cannot be read or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(io_error(root))?;
        let lock_path = root.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(io_error(&lock_path))?;
        let lock = FileLock::try_take(lock).map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::InUse {
                root: root.to_owned(),
            },
            TryLockError::Error(source) => io_error(&lock_path)(source),
        })?;
        let store = Self {
            root: root.to_owned(),
            _lock: lock,
        };
        store.remove_half_deleted()?;
        for model in store.models()? {
            store.remove_half_written(&model)?;
        }
        Ok(store)
    }

    /// Lists the models that have a folder, by name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn models(&self) -> Result<Vec<ModelName>, StoreError> {
        let mut models: Vec<_> = folders_in(&self.root)?
            .iter()
            .filter_map(|name| ModelName::new(name).ok())
            .collect();
        models.sort();
        Ok(models)
    }

    /// Lists the committed versions of `model`, oldest first. An unknown model has none.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the versions cannot be listed.
    pub fn versions(&self, model: &ModelName) -> Result<Vec<StoredVersion>, StoreError> {
        let folders = self.version_folders(model)?.into_iter();
        let stored = folders.filter_map(|version| self.stored(model, version));
        Ok(stored.collect())
    }

    /// A committed version of `model`, if it exists. A damaged manifest is logged; the version is returned without
    /// it.
    pub fn stored(&self, model: &ModelName, version: u64) -> Option<StoredVersion> {
        let manifest = match self.manifest(model, version) {
            Ok(manifest) => Some(manifest),
            Err(StoreError::NoSuchVersion { .. }) => return None,
            Err(error) => {
                warn!(%model, version, "the version is damaged: {error}");
                None
            }
        };
        Some(StoredVersion { version, manifest })
    }

    /// Finds the newest committed version of `model` with the same ONNX file and the same `manifest`. The
    /// provenance is ignored, because it does not affect a model's answers. A version with a damaged manifest
    /// is skipped.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the versions cannot be listed.
    pub fn find(
        &self,
        model: &ModelName,
        manifest: &ArtifactManifest,
    ) -> Result<Option<u64>, StoreError> {
        let is_same = |mut stored: ArtifactManifest| {
            stored.provenance.clone_from(&manifest.provenance);
            stored == *manifest
        };
        let holds = |version: &u64| match self.manifest(model, *version) {
            Ok(stored) => is_same(stored),
            Err(error) => {
                warn!(%model, version, "skipped: {error}");
                false
            }
        };
        let numbers = self.version_numbers(model)?;
        Ok(numbers.into_iter().rev().find(holds))
    }

    /// The numbers of the committed versions of `model` in ascending order. Does not read the manifests.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn version_numbers(&self, model: &ModelName) -> Result<Vec<u64>, StoreError> {
        let mut versions = self.version_folders(model)?;
        versions.retain(|version| self.is_committed(model, *version));
        Ok(versions)
    }

    /// The manifest of a committed version.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`], or if it cannot be read.
    pub fn manifest(
        &self,
        model: &ModelName,
        version: u64,
    ) -> Result<ArtifactManifest, StoreError> {
        let path = self.version_folder(model, version).join(MANIFEST_FILE);
        let Some(json) = read_if_present(&path)? else {
            return Err(StoreError::NoSuchVersion {
                model: model.clone(),
                version,
            });
        };
        ArtifactManifest::from_json(&json).map_err(|source| StoreError::Manifest { path, source })
    }

    /// Reads the ONNX file of a committed version and compares its digest with `manifest`.
    ///
    /// # Errors
    /// If the file cannot be read or has another digest.
    pub fn onnx(
        &self,
        model: &ModelName,
        version: u64,
        manifest: &ArtifactManifest,
    ) -> Result<Vec<u8>, StoreError> {
        let path = self.version_folder(model, version).join(MODEL_FILE);
        let onnx = folders::read(&path).map_err(io_error(&path))?;
        let found = Sha256::of(&onnx);
        if found != manifest.onnx.sha256 {
            let expected = &manifest.onnx.sha256;
            let problem = format!("its SHA-256 is {found}, the manifest says {expected}");
            return Err(StoreError::Corrupt { path, problem });
        }
        Ok(onnx)
    }

    /// Stores a new version of `model` without a signature and returns its number. The active version does not change.
    ///
    /// # Errors
    /// [`StoreError::Io`]; nothing of the version remains.
    pub fn commit(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
    ) -> Result<u64, StoreError> {
        let json = manifest.to_json();
        self.commit_files(
            model,
            &[(MODEL_FILE, onnx), (MANIFEST_FILE, json.as_slice())],
        )
    }

    /// Writes the files of a new version of `model` in their order; the manifest is the last.
    fn commit_files(&self, model: &ModelName, files: &[(&str, &[u8])]) -> Result<u64, StoreError> {
        let newest_served = self.active(model)?.map_or(0, |active| active.newest_served);
        // Numbers of deleted versions are not reused, because clients may still use them.
        let version = self.newest_number(model, newest_served)? + 1;
        let (version, folder) = self.create_version_folder(model, version)?;
        let written = files.iter().try_for_each(|(name, bytes)| {
            let path = folder.join(name);
            atomic_file::write(&path, bytes).map_err(io_error(&path))
        });
        written.inspect_err(|_| {
            // If this fails, the next start removes the folder, which has no manifest.
            let _ = fs::remove_dir_all(&folder);
        })?;
        Ok(version)
    }

    /// The active version of `model`; `None` before the first activation.
    ///
    /// # Errors
    /// If `active.json` cannot be read.
    pub fn active(&self, model: &ModelName) -> Result<Option<ActiveVersion>, StoreError> {
        let path = self.model_folder(model).join(ACTIVE_FILE);
        let Some(json) = read_if_present(&path)? else {
            return Ok(None);
        };
        let active: ActiveVersion =
            serde_json::from_slice(&json).map_err(|error| StoreError::Corrupt {
                path: path.clone(),
                problem: error.to_string(),
            })?;
        if active.format_version > ACTIVE_FORMAT_VERSION {
            let found = active.format_version;
            let problem = format!("format_version {found} is newer than this build reads");
            return Err(StoreError::Corrupt { path, problem });
        }
        Ok(Some(active))
    }

    /// Makes `version` the active version, also after a restart.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`], or if `active.json` cannot be replaced.
    pub fn activate(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        self.manifest(model, version)?;
        let newest_served = self.active(model)?.map_or(0, |active| active.newest_served);
        let active = ActiveVersion {
            format_version: ACTIVE_FORMAT_VERSION,
            version,
            newest_served: newest_served.max(version),
        };
        let path = self.model_folder(model).join(ACTIVE_FILE);
        // Cannot fail: the fields are integers.
        let json = serde_json::to_vec(&active).expect("active.json serializes");
        atomic_file::write(&path, &json).map_err(io_error(&path))
    }

    /// Removes a committed version, or only the link if it is one. The caller ensures that the version does not
    /// serve.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`] or [`StoreError::Io`].
    pub fn delete(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        let folder = self.version_folder(model, version);
        if folders::is_link(&folder) {
            // The target of the link does not belong to the store.
            return fs::remove_file(&folder).map_err(io_error(&folder));
        }
        let manifest = folder.join(MANIFEST_FILE);
        // The commit mark first, so that a crash leaves a half-written version, which is removed later.
        fs::remove_file(&manifest).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NoSuchVersion {
                model: model.clone(),
                version,
            },
            _ => io_error(&manifest)(error),
        })?;
        fs::remove_dir_all(&folder).map_err(io_error(&folder))
    }

    /// Creates the folder of `version`, or of the next number whose name is free: a file or a dangling link may
    /// have the name.
    fn create_version_folder(
        &self,
        model: &ModelName,
        mut version: u64,
    ) -> Result<(u64, PathBuf), StoreError> {
        let folder = self.model_folder(model);
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        loop {
            let folder = self.version_folder(model, version);
            match fs::create_dir(&folder) {
                Ok(()) => return Ok((version, folder)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => version += 1,
                Err(error) => return Err(io_error(&folder)(error)),
            }
        }
    }

    /// Whether a manifest exists, even if it is damaged or a dangling link.
    fn is_committed(&self, model: &ModelName, version: u64) -> bool {
        let manifest = self.version_folder(model, version).join(MANIFEST_FILE);
        // In doubt the version counts as committed, so that it is not removed.
        folders::entry_exists(&manifest).unwrap_or(true)
    }

    fn remove_half_written(&self, model: &ModelName) -> Result<(), StoreError> {
        for version in self.version_folders(model)? {
            if self.is_committed(model, version) {
                continue;
            }
            let folder = self.version_folder(model, version);
            if folders::is_link(&folder) {
                warn!(%model, version, "a link to a folder without a manifest is left as it is");
                continue;
            }
            warn!(%model, version, "removing a half-written version");
            if let Err(error) = fs::remove_dir_all(&folder) {
                // Readers skip the folder anyway, and it must not prevent the other versions from serving.
                warn!(%model, version, folder = %folder.display(), %error, "it cannot be removed");
            }
        }
        Ok(())
    }

    /// The largest number that a version of `model` has or had.
    fn newest_number(&self, model: &ModelName, newest_served: u64) -> Result<u64, StoreError> {
        let newest_stored = self.version_folders(model)?.last().copied().unwrap_or(0);
        let newest_deleted = self.newest_deleted(model)?;
        Ok(newest_served.max(newest_stored).max(newest_deleted))
    }

    /// The numbers of all version folders of `model`, committed or not, in ascending order.
    fn version_folders(&self, model: &ModelName) -> Result<Vec<u64>, StoreError> {
        let mut versions: Vec<u64> = folders_in(&self.model_folder(model))?
            .iter()
            .filter_map(|name| parse_version(name))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    fn model_folder(&self, model: &ModelName) -> PathBuf {
        self.root.join(model.as_str())
    }

    fn version_folder(&self, model: &ModelName, version: u64) -> PathBuf {
        self.model_folder(model).join(version.to_string())
    }
}

/// Parses a version number: digits without a sign or leading zeros.
pub fn parse_version(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|version: &u64| *version > 0 && version.to_string() == text)
}

/// Names of the folders in `path`, including links to folders. Other entries are logged.
fn folders_in(path: &Path) -> Result<Vec<String>, StoreError> {
    let listing = folders::list(path).map_err(io_error(path))?;
    for unusable in &listing.unusable {
        warn!("model store: skipped: {unusable}");
    }
    Ok(listing
        .folders()
        .map(|folder| folder.name.clone())
        .collect())
}

fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match folders::entry_exists(path) {
        Ok(false) => Ok(None),
        Ok(true) | Err(_) => folders::read(path).map(Some).map_err(io_error(path)),
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    |source| StoreError::Io { path, source }
}

#[cfg(test)]
mod tests;
