//! The files of a run as they are at one moment.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use common::atomic_file;

/// The files of a run at one moment, to be read later.
///
/// Files are open, so they stay readable when the run removes or replaces them. Files that the run writes line by line only
/// grow: the part that was there stays as it is.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) files: Vec<OpenFile>,
}

/// A file of a snapshot.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// The path in the run's folder, with `/` between its components.
    pub(super) path: String,
    /// What shows that the file is the same as in an earlier snapshot.
    pub(super) state: FileState,
    file: File,
}

/// The state of a file: with the same one, the content is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    inode: u64,
    /// Bytes.
    pub(super) length: u64,
    changed: (i64, i64),
}

impl Snapshot {
    /// Opens the files in `folder`, which need not exist. Its owner must not replace or remove files meanwhile.
    ///
    /// # Errors
    /// I/O errors; the text names the path.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        if folder.exists() {
            collect(folder, "", &mut files)?;
        }
        Ok(Self { files })
    }
}

impl OpenFile {
    /// The content at the moment of the snapshot.
    ///
    /// # Errors
    /// If it cannot be read; the text names the path.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; self.state.length as usize];
        self.file
            .read_exact_at(&mut content, 0)
            .map_err(|error| with_path(Path::new(&self.path), &error))?;
        Ok(content)
    }
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Opens the files in `folder` and below, whose path in the run's folder is `below`.
fn collect(folder: &Path, below: &str, files: &mut Vec<OpenFile>) -> io::Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| with_path(folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| with_path(folder, &error))?;
        let (name, path) = (entry.file_name(), entry.path());
        if atomic_file::is_unfinished(&name) {
            continue;
        }
        let Some(name) = name.to_str() else {
            let problem = io::Error::other("its name is not UTF-8");
            return Err(with_path(&path, &problem));
        };
        let name = match below {
            "" => name.to_owned(),
            below => format!("{below}/{name}"),
        };
        let open = || -> io::Result<(File, Metadata)> {
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        };
        let (file, metadata) = open().map_err(|error| with_path(&path, &error))?;
        if metadata.is_dir() {
            collect(&path, &name, files)?;
        } else {
            files.push(OpenFile {
                path: name,
                state: FileState::of(&metadata),
                file,
            });
        }
    }
    Ok(())
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn contents(snapshot: &Snapshot) -> Vec<(&str, Vec<u8>)> {
        let files = snapshot.files.iter();
        let mut contents: Vec<_> = files
            .map(|file| (file.path.as_str(), file.read().unwrap()))
            .collect();
        contents.sort();
        contents
    }

    #[test]
    fn a_snapshot_keeps_what_is_removed_replaced_or_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        atomic_file::write(&path("a/removed"), b"removed").unwrap();
        atomic_file::write(&path("a/replaced"), b"before").unwrap();
        fs::write(path("log"), "one\n").unwrap();
        fs::write(path("a/.writing-x"), "half").unwrap();
        let snapshot = Snapshot::of(folder.path()).unwrap();

        fs::remove_file(path("a/removed")).unwrap();
        atomic_file::write(&path("a/replaced"), b"after!").unwrap();
        let mut log = File::options().append(true).open(path("log")).unwrap();
        log.write_all(b"two\n").unwrap();
        let expected = [
            ("a/removed", b"removed".to_vec()),
            ("a/replaced", b"before".to_vec()),
            ("log", b"one\n".to_vec()),
        ];
        assert_eq!(contents(&snapshot), expected);

        let states = |snapshot: &Snapshot, name: &str| {
            let mut files = snapshot.files.iter();
            files.find(|file| file.path == name).unwrap().state
        };
        let now = Snapshot::of(folder.path()).unwrap();
        assert_ne!(states(&snapshot, "a/replaced"), states(&now, "a/replaced"));
        assert_ne!(states(&snapshot, "log"), states(&now, "log"));
        let again = Snapshot::of(folder.path()).unwrap();
        assert_eq!(states(&again, "log"), states(&now, "log"));
    }

    #[test]
    fn a_folder_that_does_not_exist_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let none = Snapshot::of(&folder.path().join("none")).unwrap();
        assert!(none.files.is_empty());
    }
}
