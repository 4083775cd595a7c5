//! Copies the files of a run from its bucket to a folder.

use std::{fs, io, path::Path};

use bytes::Bytes;
use common::{atomic_file, digest::Sha256};
use object_storage::Bucket;

use super::{
    error::BucketRunError,
    persistence::Persistence,
    record::{self, RunRecord, StoredFile},
};

/// Replaces `folder`, whose path ends with a name, by one with the files of `record`. A process that fails or is killed
/// meanwhile leaves the old folder.
///
/// # Errors
/// If a file cannot be read, is damaged, or cannot be written; [`BucketRunError::Stopped`].
pub(super) fn download(
    bucket: &Bucket,
    record: &RunRecord,
    folder: &Path,
    persistence: Persistence<'_>,
) -> Result<(), BucketRunError> {
    // Not appended to the path, which may end with a slash.
    let mut incoming = folder.file_name().unwrap_or_default().to_owned();
    incoming.push(".incoming");
    let incoming = folder.with_file_name(incoming);
    remove_folder(&incoming)?;
    let replaced = fill(bucket, record, &incoming, persistence).and_then(|()| {
        remove_folder(folder)?;
        Ok(fs::rename(&incoming, folder).map_err(with_path(folder))?)
    });
    if replaced.is_err() {
        // The error is more important, and the next download removes it, too.
        let _ = remove_folder(&incoming);
    }
    replaced
}

/// Writes the files of `record` to the new folder `incoming`.
fn fill(
    bucket: &Bucket,
    record: &RunRecord,
    incoming: &Path,
    persistence: Persistence<'_>,
) -> Result<(), BucketRunError> {
    fs::create_dir_all(incoming).map_err(with_path(incoming))?;
    for (path, file) in &record.files {
        persistence.check()?;
        let content = persistence.repeat(|| download_file(bucket, file))?;
        atomic_file::write(&incoming.join(path), &content)?;
    }
    Ok(())
}

/// The content of `file`.
///
/// # Errors
/// If it cannot be read or is damaged.
pub(super) fn download_file(bucket: &Bucket, file: &StoredFile) -> Result<Bytes, BucketRunError> {
    let path = record::object(&file.sha256);
    let content = bucket.download(&path, file.bytes)?;
    let found = Sha256::of(&content);
    if found != file.sha256 {
        return Err(BucketRunError::Damaged {
            url: bucket.url(&path),
            problem: format!("has the SHA-256 {found}"),
        });
    }
    Ok(content)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(with_path(folder)),
    }
}

fn with_path(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
