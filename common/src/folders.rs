//! Folders and files that Retort finds by name: what may lie there, and how links count.
//!
//! One rule for the model store, recordings, checkpoints, artifacts and the queue of runs: a link is what
//! it leads to; what Retort removes is the link, never its target. What cannot be used is named and left
//! out, so that it does not hide what can.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// By name.
    pub entries: Vec<Entry>,
    /// What cannot be used, by path.
    pub unusable: Vec<Unusable>,
}

/// A usable entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// The folder's path and its name.
    pub path: PathBuf,
    /// What it is, or what the link leads to.
    pub kind: EntryKind,
}

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A pipe, a socket, a device.
    Other,
}

/// An entry of a folder that cannot be used; the text names it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// No caller could ask for it by name.
    #[error("{}: its name is not UTF-8; rename it", path.display())]
    Name {
        /// Its path.
        path: PathBuf,
    },
    /// It cannot be looked at, for example a link that leads nowhere.
    #[error("{}: {error}", path.display())]
    Unreachable {
        /// Its path.
        path: PathBuf,
        /// Why; names the target of a link.
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

/// What `folder` holds, links followed; nothing where there is no such folder.
///
/// # Errors
/// When it cannot be read, or is a link that leads nowhere. The text does not name the folder.
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
            // It was removed meanwhile.
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

/// The bytes of a regular file, links followed.
///
/// # Errors
/// When it cannot be read, or is something else: reading a named pipe could wait for ever. The text names
/// the target of a link, but not `path`.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(|error| naming_target(path, error))?;
    if !metadata.is_file() {
        let text = "it is not a regular file";
        let error = io::Error::new(io::ErrorKind::InvalidInput, text);
        return Err(naming_target(path, error));
    }
    fs::read(path).map_err(|error| naming_target(path, error))
}

/// Whether something has this path, be it a link that leads nowhere.
///
/// # Errors
/// If the folder cannot be read.
pub fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether `path` is a link, wherever it leads.
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
    fn links_count_as_what_they_lead_to_and_what_cannot_be_used_is_named() {
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
    fn a_folder_that_is_not_there_is_empty_but_a_link_that_leads_nowhere_is_an_error() {
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
        assert!(is_there(&path("dangling")).unwrap());
        assert!(!is_there(&path("missing")).unwrap());
    }
}
