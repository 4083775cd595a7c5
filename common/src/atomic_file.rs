//! Writes files atomically: a reader sees the old file or the new one, never a part.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::NamedTempFile;

/// Name prefix of temporary files.
const PREFIX: &str = ".writing-";

/// Writes `bytes` to `path`, also atomically if the machine crashes: writes and syncs a temporary file in
/// the same folder, renames it to `path` and syncs the folder. Creates missing parent folders.
///
/// # Errors
/// Any I/O error; the message names the path. The temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = write_in_place(path, bytes);
    let written = written.and_then(|_| File::open(folder_of(path))?.sync_all());
    written.map_err(|error| name(path, &error))
}

/// Writes `bytes` to `path` like [`write()`], unless `path` exists: of several processes that write it at once,
/// one succeeds. Works on network file systems, too.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `path` exists; the errors of [`write()`].
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = temporary_file(path, |file| file.write_all(bytes));
    let written = written.and_then(|file| Ok(file.persist_noclobber(path)?));
    let written = written.and_then(|_| File::open(folder_of(path))?.sync_all());
    written.map_err(|error| name(path, &error))
}

/// Writes `bytes` to `path` and returns the open file. Unlike [`write()`], this does not sync the folder,
/// so a power failure may lose the file: a reader may remove the file and its folder as soon as the file
/// is visible.
///
/// # Errors
/// The errors of [`write()`].
pub fn write_for_readers(path: &Path, bytes: &[u8]) -> io::Result<File> {
    write_in_place(path, bytes).map_err(|error| name(path, &error))
}

/// The same for a file that is too large for memory: `fill` writes it.
///
/// # Errors
/// Those of [`write`] and of `fill`.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let written = fill_in_place(path, fill);
    let written = written.and_then(|_| File::open(folder_of(path))?.sync_all());
    written.map_err(|error| name(path, &error))
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<File> {
    fill_in_place(path, |file| file.write_all(bytes))
}

fn fill_in_place(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    Ok(temporary_file(path, fill)?.persist(path)?)
}

/// A synced file beside `path`, with what `fill` writes, to be renamed to `path`.
fn temporary_file(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<NamedTempFile> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::with_prefix_in(PREFIX, folder)?;
    fill(file.as_file_mut())?;
    let permissions = fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    Ok(file)
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

/// Removes the temporary files in `folder` that remain after a process was killed while it wrote. The
/// caller ensures that no other process or thread writes there meanwhile.
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

/// Whether a file with this name is a temporary file, still being written or left by a killed process.
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_file_and_leaves_no_other() {
        let for_readers = |path: &Path, bytes: &[u8]| write_for_readers(path, bytes).map(drop);
        let with = |path: &Path, bytes: &[u8]| write_with(path, |file| file.write_all(bytes));
        for write in [write, for_readers, with] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a/b.txt");
            write(&path, b"one").unwrap();
            write(&path, b"two").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"two");
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_exists_is_kept_if_it_is_to_be_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        write_new(&path, b"one").unwrap();
        let error = write_new(&path, b"two").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        assert!(error.to_string().contains("b.txt"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
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
