//! The folder of this machine in which a run works whose output is in a bucket.

use std::{
    fs::{self, DirBuilder, File, Metadata, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use common::{atomic_file, digest::Sha256, file_lock::FileLock};
use tempfile::TempDir;

use super::error::BucketRunError;

/// The file with the name of the folder.
const WRITER: &str = "writer";

/// A scratch folder, locked against other processes.
///
/// It has a random name, which the run's record names as its writer. So the state here is that of the bucket or a newer one
/// if the record names this folder, and an older one otherwise.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    run: PathBuf,
    _lock: FileLock,
}

impl Scratch {
    /// The scratch folder of the run at `url`, called `name`: in `parent`, or in the user's own folder for temporary files.
    ///
    /// # Errors
    /// If another process has it, or it cannot be made.
    pub(super) fn open(
        parent: Option<&Path>,
        url: &str,
        name: &str,
    ) -> Result<Self, BucketRunError> {
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            None => own_temporary_folder()?,
        };
        let digest = Sha256::of(url.as_bytes());
        let folder = parent.join(&digest.as_str()[..16]);
        let cannot_use = |error: io::Error| BucketRunError::Folder {
            folder: folder.clone(),
            problem: error.to_string(),
        };
        fs::create_dir_all(&folder).map_err(cannot_use)?;
        let lock = File::open(&folder).map_err(cannot_use)?;
        let lock = match FileLock::try_take(lock) {
            Ok(lock) if is_at(&lock, &folder) => lock,
            Ok(_) | Err(TryLockError::WouldBlock) => {
                return Err(BucketRunError::ScratchInUse {
                    url: url.to_owned(),
                    folder,
                });
            }
            Err(TryLockError::Error(error)) => return Err(cannot_use(error)),
        };
        Ok(Self {
            run: folder.join("run").join(name),
            folder,
            _lock: lock,
        })
    }

    /// The run's folder.
    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    /// A temporary folder in this one: the rest of the file system may be read-only.
    ///
    /// # Errors
    /// I/O errors.
    pub(super) fn temporary(&self) -> io::Result<TempDir> {
        tempfile::tempdir_in(&self.folder)
    }

    /// The name of the scratch folder; `None` if it has no state of the run, also after the run's folder was removed.
    ///
    /// # Errors
    /// I/O errors.
    pub(super) fn writer(&self) -> io::Result<Option<String>> {
        if !self.run.is_dir() {
            return Ok(None);
        }
        match fs::read_to_string(self.folder.join(WRITER)) {
            Ok(writer) => Ok(Some(writer)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fails if the folder has files of the run at `url`, where there is no run: it may be the wrong store.
    ///
    /// # Errors
    /// [`BucketRunError::Folder`], I/O errors.
    pub(super) fn check_unused(&self, url: &str) -> Result<(), BucketRunError> {
        let has_files = self.writer()?.is_some() && fs::read_dir(&self.run)?.next().is_some();
        if !has_files {
            return Ok(());
        }
        Err(BucketRunError::Folder {
            folder: self.folder.clone(),
            problem: format!(
                "it has a run that {url} lacks; is that the right store? To start again, remove the folder"
            ),
        })
    }

    /// Gives the folder a name, after it got the state that the record of this writer has.
    ///
    /// # Errors
    /// I/O errors.
    pub(super) fn set_writer(&self, writer: &str) -> io::Result<()> {
        atomic_file::write(&self.folder.join(WRITER), writer.as_bytes())
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// I/O errors.
    pub(super) fn remove(&self) -> io::Result<()> {
        // First what says that there is a state: the process may be killed meanwhile.
        match fs::remove_file(self.folder.join(WRITER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_dir_all(&self.folder)
    }
}

/// Whether `locked` is still the folder at `path`: the process that had it may have removed it.
fn is_at(locked: &File, path: &Path) -> bool {
    let id = |metadata: io::Result<Metadata>| metadata.map(|it| (it.dev(), it.ino())).ok();
    let locked = id(locked.metadata());
    locked.is_some() && locked == id(fs::metadata(path))
}

/// `retort-UID` in the system's folder for temporary files, where other users may have made a folder with this name.
fn own_temporary_folder() -> Result<PathBuf, BucketRunError> {
    let user = fs::metadata("/proc/self")?.uid();
    let folder = std::env::temp_dir().join(format!("retort-{user}"));
    let refused = |problem: String| BucketRunError::Folder {
        folder: folder.clone(),
        problem,
    };
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(refused(error.to_string()));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(&folder).map_err(|error| refused(error.to_string()))?;
    let is_own = metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o022 == 0;
    if !is_own {
        let problem = "another user can write there; give --scratch FOLDER".to_owned();
        return Err(refused(problem));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_is_the_users_own() {
        // A URL that no other test has.
        let unique = tempfile::tempdir().unwrap();
        let url = format!("s3://b{}", unique.path().display());
        let scratch = Scratch::open(None, &url, "name").unwrap();
        assert_eq!(scratch.writer().unwrap(), None);
        scratch.set_writer("a").unwrap();
        assert_eq!(scratch.writer().unwrap(), None, "it has no run");
        fs::create_dir_all(scratch.run()).unwrap();
        assert_eq!(scratch.writer().unwrap().as_deref(), Some("a"));

        let parent = fs::metadata(scratch.folder.parent().unwrap()).unwrap();
        assert_eq!(parent.uid(), fs::metadata("/proc/self").unwrap().uid());
        assert_eq!(parent.mode() & 0o022, 0);
        scratch.remove().unwrap();
        assert!(!scratch.folder.exists());
    }

    #[test]
    fn each_run_has_a_folder_that_one_process_has() {
        let parent = tempfile::tempdir().unwrap();
        let open = |url: &str| Scratch::open(Some(parent.path()), url, "name");
        let (first, other) = (
            open("s3://b/a/name").unwrap(),
            open("s3://b/c/name").unwrap(),
        );
        assert_ne!(first.run(), other.run());
        let error = open("s3://b/a/name").unwrap_err();
        assert!(
            matches!(error, BucketRunError::ScratchInUse { .. }),
            "{error}"
        );
        let locked = File::open(&first.folder).unwrap();
        assert!(is_at(&locked, &first.folder) && !is_at(&locked, &other.folder));
        drop(first);
        open("s3://b/a/name").unwrap();
    }
}
