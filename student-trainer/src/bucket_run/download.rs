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

/// Replaces `folder` by one with the files of `record`. A process that is killed meanwhile leaves the old folder.
///
/// # Errors
/// If a file cannot be read, is damaged, or cannot be written.
pub(super) fn download(
    bucket: &Bucket,
    record: &RunRecord,
    folder: &Path,
    persistence: Persistence<'_>,
) -> Result<(), BucketRunError> {
    let mut incoming = folder.as_os_str().to_owned();
    incoming.push(".incoming");
    let incoming = Path::new(&incoming);
    remove_folder(incoming)?;
    fs::create_dir_all(incoming).map_err(with_path(incoming))?;
    for (path, file) in &record.files {
        let content = persistence.repeat(|| download_file(bucket, file))?;
        atomic_file::write(&incoming.join(path), &content)?;
    }
    remove_folder(folder)?;
    fs::rename(incoming, folder).map_err(with_path(folder))?;
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
