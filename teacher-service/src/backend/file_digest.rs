//! The digest of a model's files.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use common::digest::{RollingSha256, Sha256};

use super::LoadError;

/// The digest of the lengths and bytes of `files`, in this order.
///
/// # Errors
/// [`LoadError::Unreadable`].
pub(super) fn file_digest<'f>(
    files: impl IntoIterator<Item = &'f Path>,
) -> Result<Sha256, LoadError> {
    let mut digest = RollingSha256::default();
    for file in files {
        append(file, &mut digest).map_err(|source| LoadError::Unreadable {
            path: file.to_owned(),
            source,
        })?;
    }
    Ok(digest.finish())
}

/// Appends the length and the bytes of a file.
fn append(path: &Path, digest: &mut RollingSha256) -> io::Result<()> {
    let mut file = File::open(path)?;
    digest.update(&file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => digest.update(&buffer[..read]),
        }
    }
}
