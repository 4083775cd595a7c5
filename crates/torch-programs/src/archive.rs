//! PyTorch's archives: ZIP files whose records lie in one folder, named after the archive.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use common::text::shorten;
use zip::{CompressionMethod, ZipArchive, result::ZipError};

use crate::ProgramError;

/// Limit for the compressed records of an archive together, inflated, in bytes. PyTorch stores tensors uncompressed,
/// and compresses only TorchScript code.
const INFLATED_LIMIT: u64 = 256 << 20;
/// Ends of the names of records that hold native code.
const NATIVE_CODE: [&str; 7] = [".so", ".o", ".a", ".dll", ".dylib", ".cubin", ".ptx"];
/// What AOTInductor writes.
const AOT_INDUCTOR: &str = "data/aotinductor/";
const MODELS: &str = "models/";
const JSON: &str = ".json";
/// The name that `torch.export.save` gives to its program.
const DEFAULT_MODEL: &str = "model";

/// A complete archive: every record has its declared size and checksum.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    /// Record name, without the archive's folder, to its size in bytes and its index.
    records: BTreeMap<String, (u64, usize)>,
}

/// What an archive contains.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    ExportedProgram { model: String },
    TorchScript,
}

impl Archive {
    /// Opens the archive, and reads all of it once to verify the checksums.
    pub(crate) fn open(path: &Path) -> Result<Self, ProgramError> {
        let unreadable = |source| ProgramError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let not_a_program = |found| ProgramError::NotAProgram {
            path: path.to_owned(),
            found,
        };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        // A pipe or a device could block for ever.
        if !metadata.is_file() {
            return Err(not_a_program("is not a file"));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let mut start = Vec::new();
        (&mut file)
            .take(9)
            .read_to_end(&mut start)
            .map_err(unreadable)?;
        match start.as_slice() {
            [] => return Err(not_a_program("is empty")),
            [b'P', b'K', 3 | 5, ..] => {}
            // A pickle of protocol 2 or newer.
            [0x80, 2..=5, ..] => {
                return Err(ProgramError::Pickled {
                    path: path.to_owned(),
                });
            }
            // The length of the description, 8 bytes, then the description in JSON.
            [_, _, _, _, _, _, _, _, b'{'] => {
                return Err(not_a_program(
                    "looks like safetensors, which holds weights without a program",
                ));
            }
            _ => return Err(not_a_program("is not an archive of PyTorch")),
        }
        file.rewind().map_err(unreadable)?;
        let zip = match ZipArchive::new(BufReader::new(file)) {
            Ok(zip) => zip,
            Err(ZipError::Io(source)) if source.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(unreadable(source));
            }
            Err(error) => {
                return Err(damaged(
                    path,
                    format!("its end or its list of entries is missing or wrong ({error})"),
                ));
            }
        };
        let mut archive = Self {
            path: path.to_owned(),
            zip,
            records: BTreeMap::new(),
        };
        archive.verify_sizes(metadata.len())?;
        archive.verify_checksums()?;
        Ok(archive)
    }

    /// Decides what the archive contains.
    pub(crate) fn format(&self) -> Result<Format, ProgramError> {
        let native = |name: &&String| {
            name.starts_with(AOT_INDUCTOR) || NATIVE_CODE.iter().any(|end| name.ends_with(end))
        };
        if let Some(record) = self.records.keys().find(native) {
            return Err(ProgramError::NativeCode {
                path: self.path.clone(),
                record: shorten(record, 100),
            });
        }
        let models: BTreeSet<_> = self
            .records
            .keys()
            .filter_map(|name| name.strip_prefix(MODELS)?.strip_suffix(JSON))
            .collect();
        if models.contains(DEFAULT_MODEL) || models.len() == 1 {
            let model = if models.contains(DEFAULT_MODEL) {
                Some(DEFAULT_MODEL)
            } else {
                models.first().copied()
            };
            return Ok(Format::ExportedProgram {
                model: model.unwrap_or_default().to_owned(),
            });
        }
        if !models.is_empty() {
            return Err(ProgramError::Unsupported {
                path: self.path.clone(),
                reason: format!(
                    "holds {} programs and none is named \"{DEFAULT_MODEL}\"; save one program with torch.export.save",
                    models.len()
                ),
            });
        }
        if self.contains("constants.pkl") && self.contains("data.pkl") {
            return Ok(Format::TorchScript);
        }
        if self.contains("data.pkl") {
            return Err(ProgramError::Pickled {
                path: self.path.clone(),
            });
        }
        if self.contains("serialized_exported_program.json") {
            return Err(ProgramError::Unsupported {
                path: self.path.clone(),
                reason: "has a format that PyTorch wrote before 2.8; load it with torch.export.load and save it again \
                         with PyTorch 2.11"
                    .to_owned(),
            });
        }
        Err(ProgramError::NotAProgram {
            path: self.path.clone(),
            found: "is a ZIP archive without a program",
        })
    }

    /// Whether there is a record of this name.
    pub(crate) fn contains(&self, record: &str) -> bool {
        self.records.contains_key(record)
    }

    /// The size of a record in bytes.
    pub(crate) fn size(&self, record: &str) -> Option<u64> {
        self.records.get(record).map(|&(size, _)| size)
    }

    /// Reads a record of at most `limit` bytes.
    pub(crate) fn read(&mut self, record: &str, limit: u64) -> Result<Vec<u8>, ProgramError> {
        let &(size, index) = self
            .records
            .get(record)
            .ok_or_else(|| damaged(&self.path, format!("{record} is missing")))?;
        if size > limit {
            return Err(damaged(
                &self.path,
                format!("{record} has {size} bytes, more than {limit}"),
            ));
        }
        let mut bytes = Vec::new();
        let result = match self.zip.by_index(index) {
            Ok(entry) => entry
                .take(limit)
                .read_to_end(&mut bytes)
                .map_err(ZipError::Io),
            Err(error) => Err(error),
        };
        match result {
            Ok(_) => Ok(bytes),
            Err(error) => Err(damaged(&self.path, format!("{record}: {error}"))),
        }
    }

    /// Rejects archives that would take more memory than their length explains: libtorch allocates what they declare.
    fn verify_sizes(&mut self, length: u64) -> Result<(), ProgramError> {
        let (mut stored, mut inflated) = (0_u64, 0_u64);
        for index in 0..self.zip.len() {
            let entry = match self.zip.by_index_raw(index) {
                Ok(entry) => entry,
                Err(error) => return Err(damaged(&self.path, format!("entry {index}: {error}"))),
            };
            let name = entry.name();
            let shown = shorten(name, 100);
            if entry.compression() == CompressionMethod::Stored {
                if entry.size() != entry.compressed_size() {
                    return Err(damaged(&self.path, format!("{shown} has two sizes")));
                }
                stored = stored.saturating_add(entry.size());
            } else {
                inflated = inflated.saturating_add(entry.size());
            }
            // Every record lies in the archive's folder.
            let record = name
                .split_once('/')
                .map_or(name, |(_, record)| record)
                .to_owned();
            if self.records.insert(record, (entry.size(), index)).is_some() {
                return Err(damaged(&self.path, format!("{shown} is there twice")));
            }
        }
        if stored > length {
            return Err(damaged(
                &self.path,
                format!("its entries add up to {stored} bytes, but the file has {length}"),
            ));
        }
        if inflated > INFLATED_LIMIT {
            return Err(damaged(
                &self.path,
                format!(
                    "its compressed entries inflate to {inflated} bytes, more than {INFLATED_LIMIT}"
                ),
            ));
        }
        Ok(())
    }

    fn verify_checksums(&mut self) -> Result<(), ProgramError> {
        for (record, &(size, index)) in &self.records {
            let wrong =
                |reason: String| damaged(&self.path, format!("{}: {reason}", shorten(record, 100)));
            let entry = self
                .zip
                .by_index(index)
                .map_err(|error| wrong(error.to_string()))?;
            // One more byte than declared, so that a longer entry is noticed and never inflated in full.
            let read = io::copy(&mut entry.take(size.saturating_add(1)), &mut io::sink());
            match read {
                Ok(read) if read == size => {}
                Ok(_) => return Err(wrong(format!("does not have the declared {size} bytes"))),
                Err(error) => return Err(wrong(error.to_string())),
            }
        }
        Ok(())
    }
}

pub(crate) fn damaged(path: &Path, reason: String) -> ProgramError {
    ProgramError::Damaged {
        path: path.to_owned(),
        reason,
    }
}
