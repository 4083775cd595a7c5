//! Free space on a disk, and sizes as text.

use std::{io, path::Path};

/// Bytes that this user can still write where `folder` is, or will be.
///
/// # Errors
/// Any I/O error; it does not name the folder.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let absolute = std::path::absolute(folder)?;
    let existing = absolute.ancestors().find(|folder| folder.exists());
    let statistics = rustix::fs::statvfs(existing.unwrap_or(&absolute))?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
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
        let found = free_bytes(&folder.path().join("a/b/c")).unwrap();
        assert!(found > 0);
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
