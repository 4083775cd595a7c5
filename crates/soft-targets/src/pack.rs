//! A recording as one file, for transfer to another machine.
//!
//! An uncompressed tar file: `recording.json`, `contents.json` (which shards follow), then the shards.
//! Paths in the file are ignored: the folder's name follows from the recording, and a shard's path from
//! its numbers.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use common::digest::{RollingSha256, Sha256};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use crate::{
    description::{DESCRIPTION, check_format},
    error::StoreError,
    limits::FORMAT_VERSION,
    recording::Recording,
    shard::{Fault, ShardFault, ShardId},
};

const CONTENTS: &str = "contents.json";

/// Longest `recording.json` or `contents.json` that is read.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// What was packed or unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The file, or the recording's folder.
    pub path: PathBuf,
    /// Shards in it.
    pub shards: usize,
    /// Bytes of the packed file.
    pub bytes: u64,
    /// SHA-256 of the packed file.
    pub sha256: Sha256,
}

/// `contents.json`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format_version: u32,
    /// (view, shard), in the order in which they follow.
    shards: Vec<(u32, u32)>,
}

/// Packs the recorded shards of `recording` into `file`, atomically. Verifies each shard first.
///
/// # Errors
/// [`StoreError::Faulty`] if a shard is damaged; I/O errors. Shards that are not recorded yet are left out.
pub fn pack(recording: &Recording, file: &Path) -> Result<Packed, StoreError> {
    let (mut shards, mut faults) = (Vec::new(), Vec::new());
    for id in recording.shards(recording.views()?) {
        match recording.read(id) {
            Ok(_) => shards.push(id),
            Err(Fault::Missing) => {}
            Err(fault) => faults.push(ShardFault { id, fault }),
        }
    }
    if !faults.is_empty() {
        let folder = recording.place().to_owned();
        return Err(StoreError::Faulty { folder, faults });
    }
    write_pack(recording, &shards, file).map_err(StoreError::io(file))
}

fn write_pack(recording: &Recording, shards: &[ShardId], file: &Path) -> io::Result<Packed> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let temporary = tempfile::NamedTempFile::with_prefix_in(".packing-", folder)?;
    let hashing = Hashing::new(BufWriter::new(temporary.as_file()));
    let mut tar = Builder::new(hashing);
    append(&mut tar, DESCRIPTION, &recording.description_json())?;
    let contents = Contents {
        format_version: FORMAT_VERSION,
        shards: shards.iter().map(|id| (id.view, id.shard)).collect(),
    };
    append(&mut tar, CONTENTS, &serde_json::to_vec(&contents)?)?;
    for id in shards {
        let shard = fs::read(recording.folder().join(id.path()))?;
        append(&mut tar, &id.to_string(), &shard)?;
    }
    let Hashing {
        inner,
        digest,
        bytes,
    } = tar.into_inner()?;
    inner.into_inner().map_err(|error| error.into_error())?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    File::open(folder)?.sync_all()?;
    Ok(Packed {
        path: file.to_owned(),
        shards: shards.len(),
        bytes,
        sha256: digest.finish(),
    })
}

/// Appends a file without owner and time, so that equal content gives equal bytes.
fn append(tar: &mut Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    tar.append_data(&mut header, path, bytes)
}

/// Unpacks `file` into a new folder of `store`, atomically, and verifies every byte of it.
///
/// # Errors
/// [`StoreError::BadPack`] for anything that [`pack`] did not write; [`StoreError::NewerFormat`];
/// [`StoreError::AlreadyThere`]; I/O errors.
pub fn unpack(file: &Path, store: &Path) -> Result<Packed, StoreError> {
    fs::create_dir_all(store).map_err(StoreError::io(store))?;
    let workplace = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(store)
        .map_err(StoreError::io(store))?;
    let bad = |problem: String| StoreError::BadPack {
        file: file.to_owned(),
        problem,
    };
    let opened = File::open(file).map_err(StoreError::io(file))?;
    let mut archive = Archive::new(Hashing::new(BufReader::new(opened)));
    let mut entries = archive
        .entries()
        .map_err(|error| bad(format!("is not a tar file: {error}")))?;
    let mut next = |name: &str, limit: u64| {
        let entry = entries.next().ok_or(format!("ends before {name}"))?;
        take_entry(entry, name, limit)
    };

    let description = next(DESCRIPTION, MAX_JSON_BYTES).map_err(bad)?;
    let unpacked = Recording::from_json(&description, workplace.path())
        .map_err(|error| bad(error.to_string()))?;
    let folder = store.join(unpacked.identity().folder_name());
    if folder.exists() {
        return Err(StoreError::AlreadyThere { folder });
    }
    let contents = next(CONTENTS, MAX_JSON_BYTES).map_err(bad)?;
    check_format(&contents, &file.join(CONTENTS))?;
    let contents: Contents =
        serde_json::from_slice(&contents).map_err(|error| bad(format!("{CONTENTS}: {error}")))?;
    let last = contents.shards.iter().map(|(view, _)| *view).max();
    unpacked
        .check_views(last.map_or(0, |view| view.saturating_add(1)))
        .map_err(|error| bad(format!("{CONTENTS}: {error}")))?;
    let write = |name: &Path, bytes: &[u8]| {
        let path = workplace.path().join(name);
        common::atomic_file::write(&path, bytes).map_err(StoreError::io(path))
    };
    write(Path::new(DESCRIPTION), &description)?;
    for &(view, shard) in &contents.shards {
        let id = ShardId { view, shard };
        if shard >= unpacked.shards_per_view() {
            return Err(bad(format!("{CONTENTS}: there is no shard {shard}")));
        }
        let bytes = next(&id.to_string(), unpacked.file_bytes(id)).map_err(bad)?;
        write(&id.path(), &bytes)?;
        unpacked
            .read(id)
            .map_err(|fault| bad(ShardFault { id, fault }.to_string()))?;
    }
    if entries.next().is_some() {
        return Err(bad("holds more than its contents say".to_owned()));
    }
    let mut hashing = archive.into_inner();
    io::copy(&mut hashing, &mut io::sink()).map_err(StoreError::io(file))?;
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(workplace.path(), readable).map_err(StoreError::io(workplace.path()))?;
    fs::rename(workplace.path(), &folder).map_err(StoreError::io(&folder))?;
    // The folder was renamed, so there is nothing to remove.
    let _ = workplace.keep();
    Ok(Packed {
        path: folder,
        shards: contents.shards.len(),
        bytes: hashing.bytes,
        sha256: hashing.digest.finish(),
    })
}

/// The bytes of an entry, which must be a file called `name` of at most `limit` bytes.
fn take_entry<R: Read>(
    entry: io::Result<tar::Entry<'_, R>>,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, String> {
    let mut entry = entry.map_err(|error| format!("is damaged before {name}: {error}"))?;
    let found = entry.path_bytes().into_owned();
    if entry.header().entry_type() != EntryType::Regular || found != name.as_bytes() {
        let found = String::from_utf8_lossy(&found);
        return Err(format!(
            "holds `{}` where {name} should be",
            found.escape_debug()
        ));
    }
    if entry.size() > limit {
        return Err(format!(
            "{name} has {} bytes instead of {limit}",
            entry.size()
        ));
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(|error| format!("is damaged within {name}: {error}"))?;
    if (bytes.len() as u64) < entry.size() {
        return Err(format!("ends within {name}"));
    }
    Ok(bytes)
}

/// Counts and hashes the bytes that are read or written.
struct Hashing<T> {
    inner: T,
    digest: RollingSha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            digest: RollingSha256::default(),
            bytes: 0,
        }
    }

    fn count(&mut self, passed: &[u8]) {
        self.digest.update(passed);
        self.bytes += passed.len() as u64;
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(&buffer[..read]);
        Ok(read)
    }
}
