//! How a service that was given port 0 tells where it listens.

use std::{collections::BTreeMap, io, net::SocketAddr, path::Path};

use crate::atomic_file;

/// Writes `{"grpc": "127.0.0.1:43121", ...}` to `path`, whole, once a service serves. Who waits for
/// it may remove it, and its folder, at once.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, addresses: &[(&str, SocketAddr)]) -> io::Result<()> {
    let addresses: BTreeMap<_, _> = addresses.iter().copied().collect();
    atomic_file::write_for_readers(path, &serde_json::to_vec(&addresses)?)
}

/// Reads what [`write`] wrote; `None` as long as the file does not exist.
///
/// # Errors
/// When the file exists and cannot be read.
pub fn read(path: &Path) -> io::Result<Option<BTreeMap<String, SocketAddr>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
