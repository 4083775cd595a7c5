//! Deletes a model with all its versions.
//!
//! First the newest version number is recorded in `.deleted.json`, so that numbers are not reused if the model is
//! published again. Then the folder is renamed to a name that no model can have, and removed: if the process
//! is killed, the model is complete or gone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{FolderStore, ModelName, ModelStore, StoreError, io_error, read_if_present};
use common::atomic_file;

const DELETED_FILE: &str = ".deleted.json";
const DELETED_FORMAT_VERSION: u32 = 1;

/// Prefix of folders that are being removed; names of models do not begin with a dot.
const DELETING: &str = ".deleting-";

/// The content of `.deleted.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deleted {
    format_version: u32,
    /// The largest version number of each deleted model.
    newest: BTreeMap<String, u64>,
}

impl Default for Deleted {
    fn default() -> Self {
        Self {
            format_version: DELETED_FORMAT_VERSION,
            newest: BTreeMap::new(),
        }
    }
}

impl FolderStore {
    /// Removes the folder of a model with all its content. Returns the committed versions that it had.
    ///
    /// # Errors
    /// [`StoreError::NoSuchModel`], or [`StoreError::Io`]; the model is complete then.
    pub(super) fn remove_model(&self, model: &ModelName) -> Result<Vec<u64>, StoreError> {
        let folder = self.model_folder(model);
        if fs::symlink_metadata(&folder).is_err() {
            return Err(StoreError::NoSuchModel {
                model: model.clone(),
            });
        }
        let versions = self.version_numbers(model)?;
        // A damaged active.json does not prevent the deletion.
        let active = self.active(model).ok().flatten();
        let newest_served = active.map_or(0, |active| active.newest_served);
        let newest = self.newest_number(model, newest_served)?;
        if newest > 0 {
            self.note_deleted(model, newest)?;
        }
        let deleting = self.root.join(format!("{DELETING}{model}"));
        remove(&deleting)?;
        fs::rename(&folder, &deleting).map_err(io_error(&folder))?;
        let root = File::open(&self.root).and_then(|root| root.sync_all());
        root.map_err(io_error(&self.root))?;
        if let Err(error) = remove(&deleting) {
            warn!(%model, "deleted, but its files will be removed only at the next start: {error}");
        }
        Ok(versions)
    }

    /// The largest version number of a deleted model with this name, or 0.
    pub(super) fn newest_deleted(&self, model: &ModelName) -> Result<u64, StoreError> {
        let deleted = self.deleted()?;
        Ok(deleted.newest.get(model.as_str()).copied().unwrap_or(0))
    }

    /// Completes interrupted deletions.
    pub(super) fn remove_half_deleted(&self) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.root).map_err(io_error(&self.root))?;
        for entry in entries {
            let entry = entry.map_err(io_error(&self.root))?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(DELETING.as_bytes()) {
                warn!(path = %entry.path().display(), "removing a model whose deletion was interrupted");
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn note_deleted(&self, model: &ModelName, newest: u64) -> Result<(), StoreError> {
        let mut deleted = self.deleted()?;
        deleted.newest.insert(model.to_string(), newest);
        let path = self.deleted_file();
        // Cannot fail: the map has strings and integers.
        let json = serde_json::to_vec(&deleted).expect(".deleted.json serializes");
        atomic_file::write(&path, &json).map_err(io_error(&path))
    }

    fn deleted(&self) -> Result<Deleted, StoreError> {
        let path = self.deleted_file();
        let Some(json) = read_if_present(&path)? else {
            return Ok(Deleted::default());
        };
        let problem = match serde_json::from_slice::<Deleted>(&json) {
            Ok(deleted) if deleted.format_version <= DELETED_FORMAT_VERSION => return Ok(deleted),
            Ok(deleted) => {
                let found = deleted.format_version;
                format!("format_version {found} is newer than this build reads")
            }
            Err(error) => error.to_string(),
        };
        Err(StoreError::Corrupt { path, problem })
    }

    fn deleted_file(&self) -> PathBuf {
        self.root.join(DELETED_FILE)
    }
}

/// Removes a folder with its content, or a link but not its target. Succeeds if nothing exists at `path`.
fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}
