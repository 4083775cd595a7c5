//! Archives of PyTorch with some records changed; sizes and checksums are correct.

use std::{
    fs,
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
};

use zip::{CompressionMethod, ZipArchive, ZipWriter, write::FileOptions};

/// The path of a file in `tests/golden`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// The bytes of a file in `tests/golden`.
pub fn golden_bytes(name: &str) -> Vec<u8> {
    fs::read(golden(name)).expect("a golden file")
}

/// A copy of `archive`. `edit` gets each record's name, without the archive's folder, and its bytes; it returns the new
/// bytes, or `None` to leave the record out.
pub fn edited(archive: &[u8], mut edit: impl FnMut(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut source = ZipArchive::new(Cursor::new(archive)).expect("an archive");
    let mut copy = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..source.len() {
        let mut entry = source.by_index(index).expect("an entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("a complete entry");
        let (_, record) = entry.name().split_once('/').expect("the archive's folder");
        if let Some(bytes) = edit(record, bytes) {
            copy.start_file(entry.name(), options(entry.compression()))
                .expect("an entry");
            copy.write_all(&bytes).expect("memory");
        }
    }
    copy.finish().expect("memory").into_inner()
}

/// An archive with these records in the folder `archive`.
pub fn archive(records: &[(&str, &[u8])], compression: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (record, bytes) in records {
        writer
            .start_file(format!("archive/{record}"), options(compression))
            .expect("an entry");
        writer.write_all(bytes).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}

fn options(compression: CompressionMethod) -> FileOptions {
    FileOptions::default().compression_method(compression)
}
