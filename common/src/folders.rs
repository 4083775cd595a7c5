//! Lists folders and reads files, following links.
//!
//! The model store, recordings, checkpoints, artifacts and the queue of runs share one rule: a link counts
//! as its target, and Retort removes the link, never the target. An entry that cannot be used is reported
//! and left out, so that the others remain usable.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The contents of a folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// The usable entries, sorted by name.
    pub entries: Vec<Entry>,
    /// The entries that cannot be used, sorted by path.
    pub unusable: Vec<Unusable>,
}

/// A usable entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name in the folder.
    pub name: String,
    /// The folder's path joined with the name.
    pub path: PathBuf,
    /// The kind of the entry, or of a link's target.
    pub kind: EntryKind,
}

/// The kind of a folder's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A pipe, a socket or a device.
    Other,
}

/// An entry of a folder that cannot be used. The message names it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The name is not UTF-8, so no request can name the entry.
    #[error("{}: its name is not UTF-8; rename it", path.display())]
    Name {
        /// The path of the entry.
        path: PathBuf,
    },
    /// The metadata cannot be read, for example because a link has no target.
    #[error("{}: {error}", path.display())]
    Unreachable {
        /// The path of the entry.
        path: PathBuf,
        /// The cause, which names the target of a link.
        error: io::Error,
    },
}

impl Unusable {
    fn path(&self) -> &Path {
        match self {
            Self::Name { path } | Self::Unreachable { path, .. } => path,
        }
    }
}

impl Listing {
    /// The folders among the entries.
    pub fn folders(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter();
        entries.filter(|entry| entry.kind == EntryKind::Folder)
    }
}

/// Lists `folder` and follows links. A missing folder counts as empty.
///
/// # Errors
/// If the folder cannot be read, or is a link without a target. The message does not name the folder.
pub fn list(folder: &Path) -> io::Result<Listing> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(folder) => {
            return Ok(Listing::default());
        }
        Err(error) => return Err(naming_target(folder, error)),
    };
    let mut listing = Listing::default();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            listing.unusable.push(Unusable::Name { path });
            continue;
        };
        let kind = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => EntryKind::Folder,
            Ok(metadata) if metadata.is_file() => EntryKind::File,
            Ok(_) => EntryKind::Other,
            // The entry was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(&path) => continue,
            Err(error) => {
                let error = naming_target(&path, error);
                listing.unusable.push(Unusable::Unreachable { path, error });
                continue;
            }
        };
        listing.entries.push(Entry { name, path, kind });
    }
    listing.entries.sort_by(|a, b| a.name.cmp(&b.name));
    listing.unusable.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(listing)
}

/// Reads a regular file, following links.
///
/// # Errors
/// If it cannot be read, or is not a regular file: reading a named pipe could block forever. The message
/// names the target of a link, but not `path`.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|error| naming_target(path, error))?;
    if !metadata.is_file() {
        let text = "it is not a regular file";
        let error = io::Error::new(io::ErrorKind::InvalidInput, text);
        return Err(naming_target(path, error));
    }
    fs::read(path).map_err(|error| naming_target(path, error))
}

/// Whether an entry with this path exists, even a link without a target.
///
/// # Errors
/// If the folder cannot be read.
pub fn entry_exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether `path` is a link, with or without a target.
pub fn is_link(path: &Path) -> bool {
    path.is_symlink()
}

fn naming_target(path: &Path, error: io::Error) -> io::Error {
    match fs::read_link(path) {
        Ok(target) => {
            let text = format!("it is a link to {}: {error}", target.display());
            io::Error::new(error.kind(), text)
        }
        Err(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    };

    use super::*;

    #[test]
    fn links_count_as_their_targets_and_unusable_entries_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("file"), "x").unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink("folder", path("to-folder")).unwrap();
        symlink("file", path("to-file")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        symlink("loop", path("loop")).unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"\xa3")), "x").unwrap();

        let listing = list(folder.path()).unwrap();
        let entries = listing.entries.iter();
        let found: Vec<_> = entries
            .map(|entry| (entry.name.as_str(), entry.kind))
            .collect();
        let expected = [
            ("file", EntryKind::File),
            ("folder", EntryKind::Folder),
            ("socket", EntryKind::Other),
            ("to-file", EntryKind::File),
            ("to-folder", EntryKind::Folder),
        ];
        assert_eq!(found, expected);
        let names: Vec<_> = listing.folders().map(|entry| &*entry.name).collect();
        assert_eq!(names, ["folder", "to-folder"]);
        let unusable: Vec<_> = listing.unusable.iter().map(Unusable::to_string).collect();
        for (text, parts) in unusable.iter().zip([
            ["/dangling: ", "a link to nowhere: No such file"],
            ["/loop: ", "a link to loop: Too many levels"],
            ["\u{fffd}: ", "not UTF-8"],
        ]) {
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert_eq!(unusable.len(), 3);
    }

    #[test]
    fn a_missing_folder_is_empty_but_a_link_without_a_target_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        assert!(list(&link).unwrap().entries.is_empty());
        symlink("nowhere", &link).unwrap();
        let error = list(&link).unwrap_err().to_string();
        assert!(error.contains("a link to nowhere"), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(list(&file).is_err());
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "x").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        symlink(".", path("to-folder")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        assert_eq!(read(&path("file")).unwrap(), b"x");
        assert_eq!(read(&path("link")).unwrap(), b"x");
        for (name, problem) in [
            ("dangling", "a link to nowhere: No such file"),
            ("to-folder", "a link to .: it is not a regular file"),
            ("socket", "not a regular file"),
            ("missing", "No such file"),
        ] {
            let error = read(&path(name)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(entry_exists(&path("dangling")).unwrap());
        assert!(!entry_exists(&path("missing")).unwrap());
    }
}
