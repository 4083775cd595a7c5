//! Maps files into memory.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use bytes::Bytes;
use memmap2::Mmap;

/// The content of the file at `path`, which the operating system reads on access.
///
/// # Errors
/// Any I/O error.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    if !fs::metadata(path)?.is_file() {
        // Opening a named pipe could block forever.
        let text = "it is not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        // An empty file cannot be mapped.
        return Ok(Bytes::new());
    }
    // SAFETY: the bytes of a map must not change. Shards never change: Retort writes them under another
    // name, renames them over the old file (whose maps stay valid) and never writes to them again. Another
    // program that overwrites a shard in place may make a run read other numbers, or kill it by SIGBUS if
    // the file shrinks. Any bits are valid u8, so nothing worse can happen.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }?;
    Ok(Bytes::from_owner(map))
}
