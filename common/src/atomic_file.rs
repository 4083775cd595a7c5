//! Files that are written whole or not at all.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::NamedTempFile;

/// Of temporary files.
const PREFIX: &str = ".writing-";

/// Writes `bytes` to `path`: to a temporary file in the same folder, synced, then renamed over
/// `path`, then the folder is synced. Missing parent folders are made.
///
/// A reader sees the old file or the new one, never a part, also after a crash.
///
/// # Errors
/// Any I/O error, with the path in its text. The temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = write_in_place(path, bytes);
    let written = written.and_then(|_| File::open(folder_of(path))?.sync_all());
    written.map_err(|error| name(path, &error))
}

/// The same for a file that need not outlive the machine's power: the folder is not synced, nor
/// touched in any other way, once a reader can see the file, and may remove it with its folder. Gives
/// the open file.
///
/// # Errors
/// Those of [`write`].
pub fn write_for_readers(path: &Path, bytes: &[u8]) -> io::Result<File> {
    write_in_place(path, bytes).map_err(|error| name(path, &error))
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::with_prefix_in(PREFIX, folder)?;
    file.write_all(bytes)?;
    let permissions = fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    Ok(file.persist(path)?)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn name(path: &Path, error: &io::Error) -> io::Error {
    let text = format!("cannot write {}: {error}", path.display());
    io::Error::new(error.kind(), text)
}

/// Removes the temporary files that processes killed within [`write`] left in `folder`. The caller sees to
/// it that nobody writes there now.
///
/// # Errors
/// Any I/O error.
pub fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_unfinished(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file of this name is one that is being written, or was when its process was killed.
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_whole_and_leaves_nothing_else() {
        let for_readers = |path: &Path, bytes: &[u8]| write_for_readers(path, bytes).map(drop);
        for write in [write, for_readers] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a/b.txt");
            write(&path, b"one").unwrap();
            write(&path, b"two").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"two");
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_failure_names_the_path_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write(&path, b"x").unwrap_err().to_string();
        assert!(error.contains("taken"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
