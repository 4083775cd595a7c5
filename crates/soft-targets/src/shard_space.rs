//! The disk space that shards take.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use common::disk_space::FileSystem;

use crate::{error::StoreError, limits::RESERVED_BYTES};

/// Bytes to write, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSpace {
    /// Bytes of shards still to be written.
    pub needed: u64,
    /// The disk; `None` in a bucket, which has no limit that is known.
    pub disk: Option<FileSystem>,
}

/// What is still to be written to one disk.
struct DiskNeeds {
    free: u64,
    by_folder: BTreeMap<PathBuf, u64>,
}

impl ShardSpace {
    /// Fails if the disk has too little space.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`].
    pub fn check(self, folder: &Path) -> Result<(), StoreError> {
        Self::check_together(&[(folder, self)])
    }

    /// Fails if a disk has too little space for all that is still to be written to it. A folder that is there twice counts
    /// once.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], which names all folders on that disk.
    pub fn check_together(spaces: &[(&Path, Self)]) -> Result<(), StoreError> {
        let mut disks: BTreeMap<u64, DiskNeeds> = BTreeMap::new();
        for (folder, space) in spaces {
            let Some(FileSystem { device, free }) = space.disk else {
                continue;
            };
            if space.needed == 0 {
                continue;
            }
            let disk = disks.entry(device).or_insert_with(|| DiskNeeds {
                free,
                by_folder: BTreeMap::new(),
            });
            disk.free = disk.free.min(free);
            let needed = disk.by_folder.entry(folder.to_path_buf()).or_default();
            *needed = space.needed.max(*needed);
        }
        let full = disks.into_values().find(|disk| !disk.fits());
        match full {
            None => Ok(()),
            Some(disk) => Err(StoreError::NoSpace {
                needed: disk.needed(),
                free: disk.free,
                folders: disk.by_folder.into_keys().collect(),
            }),
        }
    }
}

impl DiskNeeds {
    fn needed(&self) -> u64 {
        let needed = self.by_folder.values();
        needed.fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn fits(&self) -> bool {
        self.needed().saturating_add(RESERVED_BYTES) <= self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(needed: u64, device: u64, free: u64) -> ShardSpace {
        ShardSpace {
            needed,
            disk: Some(FileSystem { device, free }),
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let folder = Path::new("targets");
        let fits = space(1_000, 1, RESERVED_BYTES + 1_000);
        assert!(fits.check(folder).is_ok());
        // Nothing to write: nothing to refuse.
        assert!(space(0, 1, 0).check(folder).is_ok());
        let error = space(2_500_000_000, 1, 1_000).check(folder);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("2.5 GB") && error.contains("1.0 kB"),
            "{error}"
        );
        assert!(error.starts_with("targets has "), "{error}");
        assert!(space(u64::MAX, 1, u64::MAX - 1).check(folder).is_err());
        let bucket = ShardSpace {
            needed: u64::MAX,
            disk: None,
        };
        assert!(bucket.check(folder).is_ok());
    }

    #[test]
    fn recordings_on_one_disk_need_space_together() {
        let [big, wide, other] = ["targets/big", "targets/wide", "other"].map(Path::new);
        let free = RESERVED_BYTES + 1_999;
        let half = space(1_000, 1, free);
        assert!(half.check(big).is_ok() && half.check(wide).is_ok());
        let error = ShardSpace::check_together(&[(big, half), (wide, half)]);
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("the disk of targets/big, targets/wide has "),
            "{error}"
        );
        assert!(error.contains("2.0 kB would be written"), "{error}");
        let done = space(0, 1, free);
        let elsewhere = space(1_000, 2, free);
        let bucket = ShardSpace {
            needed: u64::MAX,
            disk: None,
        };
        let fitting = [
            (big, half),
            (wide, done),
            (other, elsewhere),
            (wide, bucket),
        ];
        ShardSpace::check_together(&fitting).unwrap();
        // Two teachers of one model have one recording.
        ShardSpace::check_together(&[(big, half), (big, half)]).unwrap();
        ShardSpace::check_together(&[]).unwrap();
    }
}
