//! A model store in a folder, in Triton's layout, which Triton can serve too.
//!
//! ```text
//! <root>/<model>/<version>/model.onnx
//!                         /model.sig       if the model is signed
//!                         /manifest.json   written last: the commit mark
//!               /active.json               the version that serves
//!       /.deleted.json                      the newest version of each deleted model
//! ```
//!
//! A version folder without a manifest is half-written: readers skip it, and [`FolderStore::open`] removes it.
//!
//! Folders of models and versions may be links or mounts (see [`folders`]). A version is written within its own
//! folder, so files never move between file systems.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use tracing::warn;

use super::{
    ACTIVE_FILE, ActiveVersion, MANIFEST_FILE, MODEL_FILE, ModelName, ModelState, ModelStore,
    SignedManifest, StoreError, io_error, parse_version, signed::SIGNATURE_FILE,
};
use crate::manifest::ArtifactManifest;
use common::{atomic_file, digest::Sha256, file_lock::FileLock, folders};

mod deletion;

const LOCK_FILE: &str = ".lock";

/// A model store in a folder. One process at a time writes; others may read meanwhile.
#[derive(Debug)]
pub struct FolderStore {
    root: PathBuf,
    /// `None` if this process only reads.
    lock: Option<FileLock>,
}

impl FolderStore {
    /// Opens the store in `root` to read and write, creates the folder if necessary, and removes half-written
    /// versions.
    ///
    /// # Errors
    /// If another process has it open to write, or the folder cannot be read or written.
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
            lock: Some(lock),
        };
        store.remove_half_deleted()?;
        for model in store.models()? {
            store.remove_half_written(&model)?;
        }
        Ok(store)
    }

    /// Opens the store in `root` to read while another process may write.
    pub fn read_only(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            lock: None,
        }
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

    /// Writes the files of a new version of `model` and returns its number. `before_commit` gets the number before the
    /// manifest is written, which commits the version.
    fn commit_files(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &[u8],
        signature: Option<&[u8]>,
        before_commit: impl FnOnce(u64) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        self.check_writable()?;
        let newest_served = self.active(model)?.map_or(0, |active| active.newest_served);
        // Numbers of deleted versions are not reused, because clients may still use them.
        let version = self.newest_number(model, newest_served)? + 1;
        let (version, folder) = self.create_version_folder(model, version)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            atomic_file::write(&path, bytes).map_err(io_error(&path))
        };
        write(MODEL_FILE, onnx)
            .and_then(|()| signature.map_or(Ok(()), |signature| write(SIGNATURE_FILE, signature)))
            .and_then(|()| before_commit(version))
            .and_then(|()| write(MANIFEST_FILE, manifest))
            .inspect_err(|_| {
                // If this fails, the next start removes the folder, which has no manifest.
                let _ = fs::remove_dir_all(&folder);
            })?;
        Ok(version)
    }

    /// The manifest of a committed version, and its bytes.
    fn read_manifest(
        &self,
        model: &ModelName,
        version: u64,
    ) -> Result<(ArtifactManifest, Vec<u8>), StoreError> {
        let path = self.version_folder(model, version).join(MANIFEST_FILE);
        let Some(json) = read_if_present(&path)? else {
            return Err(StoreError::NoSuchVersion {
                model: model.clone(),
                version,
            });
        };
        match ArtifactManifest::from_json(&json) {
            Ok(manifest) => Ok((manifest, json)),
            Err(source) => Err(StoreError::Manifest { path, source }),
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
        let mut versions: Vec<u64> = self
            .folders_in(&self.model_folder(model))?
            .iter()
            .filter_map(|name| parse_version(name))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// Names of the folders in `path`, including links to folders. The writer logs other entries; readers list
    /// too often for that.
    fn folders_in(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        let listing = folders::list(path).map_err(io_error(path))?;
        if self.lock.is_some() {
            for unusable in &listing.unusable {
                warn!("model store: skipped: {unusable}");
            }
        }
        let folders = listing.folders();
        Ok(folders.map(|folder| folder.name.clone()).collect())
    }

    fn model_folder(&self, model: &ModelName) -> PathBuf {
        self.root.join(model.as_str())
    }

    fn active_file(&self, model: &ModelName) -> PathBuf {
        self.model_folder(model).join(ACTIVE_FILE)
    }

    fn version_folder(&self, model: &ModelName, version: u64) -> PathBuf {
        self.model_folder(model).join(version.to_string())
    }
}

impl ModelStore for FolderStore {
    fn models(&self) -> Result<Vec<ModelName>, StoreError> {
        let mut models: Vec<_> = self
            .folders_in(&self.root)?
            .iter()
            .filter_map(|name| ModelName::new(name).ok())
            .collect();
        models.sort();
        Ok(models)
    }

    fn version_numbers(&self, model: &ModelName) -> Result<Vec<u64>, StoreError> {
        let mut versions = self.version_folders(model)?;
        versions.retain(|version| self.is_committed(model, *version));
        Ok(versions)
    }

    fn manifest(&self, model: &ModelName, version: u64) -> Result<ArtifactManifest, StoreError> {
        self.read_manifest(model, version)
            .map(|(manifest, _)| manifest)
    }

    fn signed_manifest(
        &self,
        model: &ModelName,
        version: u64,
    ) -> Result<(ArtifactManifest, Option<SignedManifest>), StoreError> {
        let (manifest, json) = self.read_manifest(model, version)?;
        let signature = self.version_folder(model, version).join(SIGNATURE_FILE);
        let signature = read_if_present(&signature)?;
        let signed = signature.map(|signature| SignedManifest { json, signature });
        Ok((manifest, signed))
    }

    fn onnx(
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

    fn active(&self, model: &ModelName) -> Result<Option<ActiveVersion>, StoreError> {
        let path = self.active_file(model);
        let json = read_if_present(&path)?;
        json.map(|json| ActiveVersion::from_json(&path, &json))
            .transpose()
    }

    fn states(&self) -> Result<BTreeMap<ModelName, ModelState>, StoreError> {
        let mut states = BTreeMap::new();
        for model in self.models()? {
            let active = read_if_present(&self.active_file(&model))?;
            let active = active.map(|json| String::from_utf8_lossy(&json).into_owned());
            let versions = self.version_numbers(&model)?;
            if !versions.is_empty() {
                states.insert(model, ModelState { active, versions });
            }
        }
        Ok(states)
    }

    fn is_shared(&self) -> bool {
        self.lock.is_none()
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(StoreError::ReadOnly),
        }
    }

    fn commit(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
    ) -> Result<u64, StoreError> {
        self.commit_files(model, onnx, &manifest.to_json(), None, |_| Ok(()))
    }

    fn commit_signed(
        &self,
        model: &ModelName,
        onnx: &[u8],
        SignedManifest { json, signature }: &SignedManifest,
    ) -> Result<u64, StoreError> {
        self.commit_files(model, onnx, json, Some(signature), |_| Ok(()))
    }

    /// Counts the version as served before the commit, so that a crash between the two cannot make a restart activate
    /// it.
    fn commit_canary(
        &self,
        model: &ModelName,
        onnx: &[u8],
        manifest: &ArtifactManifest,
        signed: Option<&SignedManifest>,
    ) -> Result<u64, StoreError> {
        let note = |version| self.note_served(model, version);
        match signed {
            Some(SignedManifest { json, signature }) => {
                self.commit_files(model, onnx, json, Some(signature), note)
            }
            None => self.commit_files(model, onnx, &manifest.to_json(), None, note),
        }
    }

    fn note_served(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        self.check_writable()?;
        let Some(active) = self.active(model)? else {
            return Ok(());
        };
        let noted = active.noting(version);
        if noted == active {
            return Ok(());
        }
        let path = self.active_file(model);
        atomic_file::write(&path, &noted.to_json()).map_err(io_error(&path))
    }

    fn replace_active(
        &self,
        model: &ModelName,
        version: u64,
        before: Option<ActiveVersion>,
    ) -> Result<(), StoreError> {
        self.manifest(model, version)?;
        let active = self.active(model)?;
        if active.is_some_and(|active| active.version == version) {
            return Ok(());
        }
        self.check_writable()?;
        if active != before {
            return Err(StoreError::Changed {
                model: model.clone(),
            });
        }
        let path = self.active_file(model);
        let json = ActiveVersion::activated(active, version).to_json();
        atomic_file::write(&path, &json).map_err(io_error(&path))
    }

    fn delete(&self, model: &ModelName, version: u64) -> Result<(), StoreError> {
        self.check_writable()?;
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

    fn delete_model(&self, model: &ModelName) -> Result<Vec<u64>, StoreError> {
        self.check_writable()?;
        self.remove_model(model)
    }
}

/// The content of a file, if it exists.
pub(super) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match folders::entry_exists(path) {
        Ok(false) => Ok(None),
        Ok(true) | Err(_) => folders::read(path).map(Some).map_err(io_error(path)),
    }
}

#[cfg(test)]
mod tests;
