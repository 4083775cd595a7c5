//! Pictures packed into larger files: their offsets are in memory, their bytes are not.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use crate::pictures::Files;

/// Pictures of one split, packed into archives.
#[derive(Debug, Default)]
pub(crate) struct PackedFiles {
    pub(crate) archives: Vec<Archive>,
    pub(crate) members: Vec<Member>,
}

/// A file that holds others.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// For messages.
    pub(crate) path: PathBuf,
    /// What the offsets of the members refer to.
    pub(crate) file: Arc<File>,
}

/// A picture in an archive.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Position in the archives.
    pub(crate) archive: u32,
    /// Name within the archive.
    pub(crate) name: String,
    /// First byte.
    pub(crate) offset: u64,
    /// Number of bytes.
    pub(crate) length: u64,
    /// An index into the class names.
    pub(crate) label: Option<u32>,
}

impl Files for PackedFiles {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn name(&self, file: usize) -> &str {
        &self.members[file].name
    }

    fn label(&self, file: usize) -> Option<u32> {
        self.members[file].label
    }

    fn place(&self, file: usize) -> PathBuf {
        let member = &self.members[file];
        self.archives[member.archive as usize]
            .path
            .join(&member.name)
    }

    fn read(&self, file: usize, largest: u64) -> io::Result<Vec<u8>> {
        let Member {
            archive,
            offset,
            length,
            ..
        } = self.members[file];
        let source = &self.archives[archive as usize].file;
        let end = offset.checked_add(length);
        // Checked before memory is allocated: archives announce any length.
        if end.is_none_or(|end| source.metadata().map_or(true, |found| found.len() < end)) {
            let text = "the archive ends before the file does (truncated?)";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        if length > largest {
            let text = format!("{length} bytes; at most {largest} are allowed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = vec![0; length as usize];
        source.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}
