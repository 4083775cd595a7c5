//! Free space on a disk, and sizes as text.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// The number of its device, which tells it from the others of this machine.
    pub device: u64,
    /// Bytes that this user can still write.
    pub free: u64,
}

impl FileSystem {
    /// The file system where `folder` is, or will be.
    ///
    /// # Errors
    /// Any I/O error; it does not name the folder.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(folder)?;
        let existing = absolute.ancestors().find(|folder| folder.exists());
        let existing = existing.unwrap_or(&absolute);
        let statistics = rustix::fs::statvfs(existing)?;
        Ok(Self {
            device: fs::metadata(existing)?.dev(),
            free: statistics.f_bavail.saturating_mul(statistics.f_frsize),
        })
    }
}

/// A size with a decimal unit, such as `1.5 GB`.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["bytes", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    match unit {
        "bytes" => format!("{bytes} bytes"),
        _ => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_counts_for_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let found = FileSystem::of(&folder.path().join("a/b/c")).unwrap();
        assert!(found.free > 0);
        let parent = FileSystem::of(folder.path()).unwrap();
        assert_eq!(found.device, parent.device);
        let other = FileSystem::of(Path::new("/proc")).unwrap();
        assert_ne!(found.device, other.device);
    }

    #[test]
    fn sizes_have_a_unit_of_three_digits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (2_500_000_000, "2.5 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
