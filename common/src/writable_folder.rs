//! Checks a service's folder before it serves.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Creates `folder`, the value of the configuration's `key`, if it is missing, and checks that this process
/// can write to it with a temporary file.
///
/// # Errors
/// If the folder cannot be created or written to.
pub fn check(key: &'static str, folder: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(folder)
        .and_then(|()| tempfile::tempfile_in(folder))
        .map(drop)
        .map_err(|source| FolderError {
            key,
            folder: folder.to_owned(),
            user: rustix::process::geteuid().as_raw(),
            source,
        })
}

/// A folder that cannot be created or written to.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write to {} ({key}) as user {user}: {source}; give the folder, or the volume mounted \
     there, to that user",
    folder.display()
)]
pub struct FolderError {
    key: &'static str,
    folder: PathBuf,
    user: u32,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_a_folder_and_leaves_it_empty() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        check("store", &folder).unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn the_error_names_path_key_and_user() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let error = check("store", &file).unwrap_err().to_string();
        let user = rustix::process::geteuid().as_raw();
        for part in [&file.display().to_string(), "(store)", &user.to_string()] {
            assert!(error.contains(part), "{error}");
        }
    }
}
