//! How much a recording takes, and whether the disk has it.

use std::path::Path;

use crate::StoreError;

/// What is to be written and what is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes of shards still to be written.
    pub needed: u64,
    /// Bytes free for this user.
    pub free: u64,
}

/// Kept free beside a recording: file systems get slow and other programs fail when nothing is left.
pub(crate) const RESERVE: u64 = 64 << 20;

impl Space {
    /// Refuses what would not fit.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`].
    pub fn check(self, folder: &Path) -> Result<(), StoreError> {
        match self.needed.saturating_add(RESERVE) <= self.free || self.needed == 0 {
            true => Ok(()),
            false => Err(StoreError::NoSpace {
                folder: folder.to_owned(),
                needed: self.needed,
                free: self.free,
            }),
        }
    }
}

/// Bytes free for this user where `folder` is, or will be.
///
/// # Errors
/// Any I/O error.
pub fn free_bytes(folder: &Path) -> Result<u64, StoreError> {
    let absolute = std::path::absolute(folder).map_err(StoreError::io(folder))?;
    let there = absolute.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(&absolute);
    let statistics = rustix::fs::statvfs(there)
        .map_err(|error| StoreError::io(there)(std::io::Error::from(error)))?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// As people write it: 1.5 GB.
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
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let folder = Path::new("targets");
        let space = |needed, free| Space { needed, free };
        assert!(space(1_000, RESERVE + 1_000).check(folder).is_ok());
        // Nothing to write: nothing to refuse.
        assert!(space(0, 0).check(folder).is_ok());
        let error = space(2_500_000_000, 1_000)
            .check(folder)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("2.5 GB") && error.contains("1.0 kB"),
            "{error}"
        );
        assert!(space(u64::MAX, u64::MAX - 1).check(folder).is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_yet_counts_for_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let found = free_bytes(&folder.path().join("a/b/c")).unwrap();
        assert!(found > 0);
    }
}
