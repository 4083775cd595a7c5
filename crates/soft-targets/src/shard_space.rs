//! The disk space that shards take.

use std::path::Path;

use crate::{error::StoreError, limits::RESERVED_BYTES};

/// Bytes to write and bytes free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSpace {
    /// Bytes of shards still to be written.
    pub needed: u64,
    /// Bytes free for this user; `None` in a bucket, which has no limit that is known.
    pub free: Option<u64>,
}

impl ShardSpace {
    /// Fails if the disk has too little space.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`].
    pub fn check(self, folder: &Path) -> Result<(), StoreError> {
        let (needed, Some(free)) = (self.needed, self.free) else {
            return Ok(());
        };
        if needed == 0 || needed.saturating_add(RESERVED_BYTES) <= free {
            return Ok(());
        }
        Err(StoreError::NoSpace {
            folder: folder.to_owned(),
            needed,
            free,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let folder = Path::new("targets");
        let space = |needed, free| ShardSpace {
            needed,
            free: Some(free),
        };
        assert!(space(1_000, RESERVED_BYTES + 1_000).check(folder).is_ok());
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
        let bucket = ShardSpace {
            needed: u64::MAX,
            free: None,
        };
        assert!(bucket.check(folder).is_ok());
    }
}
