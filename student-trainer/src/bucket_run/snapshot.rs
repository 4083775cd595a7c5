//! The files of a run as they are at one moment.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use common::atomic_file;

/// Longest content that is read at once. A queue has thousands of small files, more than a process may have open.
const LONGEST_READ: u64 = 64 << 10;

/// The files of a run at one moment, to be read later.
///
/// Large files are open, so they stay readable when the run removes or replaces them; small ones were read. Files that the run
/// writes line by line only grow: the part that was there stays as it is.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) files: Vec<SnapshotFile>,
}

/// A file of a snapshot.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    /// The path in the run's folder, with `/` between its components.
    pub(super) path: String,
    /// What shows that the file is the same as in an earlier snapshot.
    pub(super) state: FileState,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Read(Vec<u8>),
    Open(File),
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
    /// Opens or reads the files in `folder`, which need not exist. Its owner must not replace or remove files meanwhile.
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

impl SnapshotFile {
    /// The content at the moment of the snapshot.
    ///
    /// # Errors
    /// If it cannot be read; the text names the path.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        match &self.content {
            Content::Read(content) => Ok(content.clone()),
            Content::Open(file) => read_start(file, self.state.length)
                .map_err(|error| with_path(Path::new(&self.path), &error)),
        }
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

/// Opens or reads the files in `folder` and below, whose path in the run's folder is `below`.
fn collect(folder: &Path, below: &str, files: &mut Vec<SnapshotFile>) -> io::Result<()> {
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
            let state = FileState::of(&metadata);
            let content = if state.length > LONGEST_READ {
                Content::Open(file)
            } else {
                let content = read_start(&file, state.length);
                Content::Read(content.map_err(|error| with_path(&path, &error))?)
            };
            files.push(SnapshotFile {
                path: name,
                state,
                content,
            });
        }
    }
    Ok(())
}

/// The first `length` bytes.
fn read_start(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let mut content = vec![0; length as usize];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
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
        for padding in [0, LONGEST_READ as usize] {
            let text = |text: &str| [vec![b' '; padding], text.as_bytes().to_vec()].concat();
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            atomic_file::write(&path("a/removed"), &text("removed")).unwrap();
            atomic_file::write(&path("a/replaced"), &text("before")).unwrap();
            fs::write(path("log"), text("one\n")).unwrap();
            fs::write(path("a/.writing-x"), "half").unwrap();
            let snapshot = Snapshot::of(folder.path()).unwrap();

            fs::remove_file(path("a/removed")).unwrap();
            atomic_file::write(&path("a/replaced"), &text("after!")).unwrap();
            let mut log = File::options().append(true).open(path("log")).unwrap();
            log.write_all(b"two\n").unwrap();
            let expected = [
                ("a/removed", text("removed")),
                ("a/replaced", text("before")),
                ("log", text("one\n")),
            ];
            assert!(contents(&snapshot) == expected, "{padding}");

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
    }

    #[test]
    fn a_snapshot_keeps_only_large_files_open() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::write(root.join("small"), vec![0_u8; LONGEST_READ as usize]).unwrap();
        fs::write(root.join("large"), vec![0_u8; LONGEST_READ as usize + 1]).unwrap();
        let snapshot = Snapshot::of(&root).unwrap();
        // Other tests close files meanwhile.
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let mut open: Vec<_> = open
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .collect();
        open.retain(|file| file.starts_with(&root));
        assert_eq!(open, [root.join("large")]);
        assert_eq!(snapshot.files.len(), 2);
    }

    #[test]
    fn a_folder_that_does_not_exist_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let none = Snapshot::of(&folder.path().join("none")).unwrap();
        assert!(none.files.is_empty());
    }
}
