//! The files of a model and their digests.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use common::{
    digest::Sha256,
    folders::{self, EntryKind, Unusable},
};

use crate::SIGNATURE_FILE;

/// What `model-signing` never covers.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// The files of a model and their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// By name.
    digests: BTreeMap<String, Sha256>,
    /// What else the folder may contain.
    ignored: Vec<String>,
}

/// Why the files of a folder cannot be signed; the text names the file.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file or the folder cannot be read.
    #[error("cannot sign {}: {error}", path.display())]
    Io {
        /// The file or the folder.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// An entry of the folder cannot be used.
    #[error("cannot sign {0}")]
    Unusable(Unusable),
    /// The folder has no file.
    #[error("cannot sign {}: it has no files", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
}

impl ModelFiles {
    /// The two files of a model that are published.
    pub fn published(onnx: Sha256, manifest_json: &[u8]) -> Self {
        let digests = [
            ("model.onnx".to_owned(), onnx),
            ("manifest.json".to_owned(), Sha256::of(manifest_json)),
        ];
        Self {
            digests: digests.into(),
            ignored: ignored().collect(),
        }
    }

    /// Every file in `folder`, except an older signature and Git's files. Folders below it are models of their own.
    ///
    /// # Errors
    /// See [`FilesError`].
    pub fn in_folder(folder: &Path) -> Result<Self, FilesError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            |error| FilesError::Io { path, error }
        };
        let listing = folders::list(folder).map_err(io_error(folder))?;
        if let Some(unusable) = listing.unusable.into_iter().next() {
            return Err(FilesError::Unusable(unusable));
        }
        let mut digests = BTreeMap::new();
        let mut ignored: Vec<String> = ignored().collect();
        for entry in listing.entries {
            if ignored.contains(&entry.name) {
                continue;
            }
            if entry.kind == EntryKind::Folder {
                ignored.push(entry.name);
                continue;
            }
            let bytes = folders::read(&entry.path).map_err(io_error(&entry.path))?;
            digests.insert(entry.name, Sha256::of(&bytes));
        }
        if digests.is_empty() {
            let folder = folder.to_owned();
            return Err(FilesError::Empty { folder });
        }
        Ok(Self { digests, ignored })
    }

    /// The files by name, with their digests.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (&str, &Sha256)> {
        let digests = self.digests.iter();
        digests.map(|(name, digest)| (name.as_str(), digest))
    }

    /// Paths in the folder that are not covered.
    pub(crate) fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

fn ignored() -> impl Iterator<Item = String> {
    let names = IGNORED.into_iter().chain([SIGNATURE_FILE]);
    names.map(str::to_owned)
}
