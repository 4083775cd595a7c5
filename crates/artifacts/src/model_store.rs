//! The model store: every published version of every model, in Triton's folder layout.
//!
//! ```text
//! <root>/<model>/<version>/model.onnx
//!                         /manifest.json   written last: the commit mark
//!               /active.json               which version serves
//!       /.deleted.json                      the newest version of each model that was deleted
//! ```
//!
//! A version never changes once it is committed. A version folder without a manifest was left
//! half-written: readers pass over it and [`ModelStore::open`] removes it.
//!
//! Folders of models and versions may be links or mounts (see [`folders`]). A version is written within
//! its own folder, so nothing is ever moved from one file system to another.

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

pub use model_name::{InvalidModelName, ModelName};

const MODEL_FILE: &str = "model.onnx";
const MANIFEST_FILE: &str = "manifest.json";
const ACTIVE_FILE: &str = "active.json";
const LOCK_FILE: &str = ".lock";
const ACTIVE_FORMAT_VERSION: u32 = 1;

/// A folder of models that one process at a time reads and writes.
#[derive(Debug)]
pub struct ModelStore {
    root: PathBuf,
    _lock: FileLock,
}

/// A committed version as it lies in the store.
#[derive(Debug, Clone)]
pub struct StoredVersion {
    /// From 1 upwards, one more for every publish.
    pub version: u64,
    /// What was published with the model; `None` where it is damaged.
    pub manifest: Option<ArtifactManifest>,
}

/// The content of `active.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveVersion {
    format_version: u32,
    /// The version that serves.
    pub version: u64,
    /// The newest version that ever served. A newer one in the store was committed by a publish
    /// that was cut off before its activation.
    pub newest_served: u64,
}

/// Why the store could not do something; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("the model store {} is in use by another process", root.display())]
    InUse {
        /// The store's folder.
        root: PathBuf,
    },
    /// The operating system refused.
    #[error("model store: {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
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
    /// A stored manifest cannot be used.
    #[error("model store: {}: {source}", path.display())]
    Manifest {
        /// The manifest's file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// A stored file is not what was committed.
    #[error("model store: {}: {problem}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreError {
    /// Whether a stored file is missing or is not what was committed, so that only other files help.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Manifest { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::InUse { .. } | Self::NoSuchModel { .. } | Self::NoSuchVersion { .. } => false,
        }
    }
}

impl ModelStore {
    /// Opens the store in `root`, which is made if it is not there, and removes half-written
    /// versions.
    ///
    /// # Errors
    /// When another process has it open, or the folder cannot be read or written.
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

    /// Every model that has a folder, by name.
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

    /// The committed versions of `model`, oldest first; empty for a model that is not there.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the versions cannot be listed.
    pub fn versions(&self, model: &ModelName) -> Result<Vec<StoredVersion>, StoreError> {
        let folders = self.version_folders(model)?.into_iter();
        let stored = folders.filter_map(|version| self.stored(model, version));
        Ok(stored.collect())
    }

    /// A committed version of `model`; `None` where it is not there. A manifest that cannot be read is
    /// told of in the log: it is not to hide the version, nor any other.
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

    /// The newest committed version of `model` of the same ONNX file and with the same `manifest`, but
    /// for its provenance: where a model comes from changes nothing of what it answers. A version
    /// whose manifest cannot be read is passed over: it is not to keep others from being published.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the versions cannot be listed.
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
                warn!(%model, version, "passed over: {error}");
                false
            }
        };
        let numbers = self.version_numbers(model)?;
        Ok(numbers.into_iter().rev().find(holds))
    }

    /// The numbers of the committed versions of `model`, in ascending order, without a look into
    /// their manifests.
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
    /// [`StoreError::NoSuchVersion`], or when it cannot be read.
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

    /// The ONNX file that `manifest` of a committed version promises.
    ///
    /// # Errors
    /// When it cannot be read or has another digest.
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

    /// Stores a new version of `model` and returns its number. It does not serve yet.
    ///
    /// # Errors
    /// [`StoreError::Io`]; nothing is left of the version then.
    pub fn commit(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
    ) -> Result<u64, StoreError> {
        let newest_served = self.active(model)?.map_or(0, |active| active.newest_served);
        // Never the number of a deleted version: a client may still know it.
        let version = self.newest_number(model, newest_served)? + 1;
        let (version, folder) = self.create_version_folder(model, version)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            atomic_file::write(&path, bytes).map_err(io_error(&path))
        };
        write(MODEL_FILE, onnx)
            .and_then(|()| write(MANIFEST_FILE, &manifest.to_json()))
            .inspect_err(|_| {
                // What stays behind has no manifest, so the next start removes it.
                let _ = fs::remove_dir_all(&folder);
            })?;
        Ok(version)
    }

    /// Which version of `model` serves; `None` before the first activation.
    ///
    /// # Errors
    /// When `active.json` cannot be read.
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

    /// Makes `version` the one that serves, also after a restart.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`], or when `active.json` cannot be replaced.
    pub fn activate(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        self.manifest(model, version)?;
        let newest_served = self.active(model)?.map_or(0, |active| active.newest_served);
        let active = ActiveVersion {
            format_version: ACTIVE_FORMAT_VERSION,
            version,
            newest_served: newest_served.max(version),
        };
        let path = self.model_folder(model).join(ACTIVE_FILE);
        // Holds: three integers serialize.
        let json = serde_json::to_vec(&active).expect("active.json serializes");
        atomic_file::write(&path, &json).map_err(io_error(&path))
    }

    /// Removes a committed version; of one that is a link, the link alone. The caller makes sure that it
    /// does not serve.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVersion`] or [`StoreError::Io`].
    pub fn delete(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        let folder = self.version_folder(model, version);
        if folders::is_link(&folder) {
            // What it leads to is not the store's own.
            return fs::remove_file(&folder).map_err(io_error(&folder));
        }
        let manifest = folder.join(MANIFEST_FILE);
        // The commit mark first: whatever a crash leaves behind is a half-written version.
        fs::remove_file(&manifest).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NoSuchVersion {
                model: model.clone(),
                version,
            },
            _ => io_error(&manifest)(error),
        })?;
        fs::remove_dir_all(&folder).map_err(io_error(&folder))
    }

    /// Makes the folder of `version`, or of the next one whose name nothing has: a file or a link that
    /// leads nowhere may have it.
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

    /// Whether there is a manifest, be it damaged or a link that leads nowhere.
    fn is_committed(&self, model: &ModelName, version: u64) -> bool {
        let manifest = self.version_folder(model, version).join(MANIFEST_FILE);
        // What cannot be told must not be taken for half-written, and removed.
        folders::is_there(&manifest).unwrap_or(true)
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
                // It is passed over in any case, and must not keep the others from being served.
                warn!(%model, version, folder = %folder.display(), %error, "it cannot be removed");
            }
        }
        Ok(())
    }

    /// The greatest number that any version of `model` has or had.
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

/// A version's number in its one spelling: no sign, no leading zero.
pub fn parse_version(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|version: &u64| *version > 0 && version.to_string() == text)
}

/// Names of the folders in `path`, links to folders among them. Entries that cannot be used are logged.
fn folders_in(path: &Path) -> Result<Vec<String>, StoreError> {
    let listing = folders::list(path).map_err(io_error(path))?;
    for unusable in &listing.unusable {
        warn!("model store: left out: {unusable}");
    }
    Ok(listing
        .folders()
        .map(|folder| folder.name.clone())
        .collect())
}

fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match folders::is_there(path) {
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
