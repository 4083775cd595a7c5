//! The number of processor cores.

use std::{num::NonZero, thread};

/// Returns the number of cores that this process may use: those of its affinity, or fewer if a control group has a
/// smaller quota, rounded down to whole cores. At least one.
///
/// The standard library reads the quotas of the process's own group and of all groups above it, of version 1
/// (`cpu.cfs_quota_us`) and of version 2 (`cpu.max`), so a container that is limited to 2 cores gets 2 threads on
/// a machine of 64. It does not see a quota that another mount hides, or one of version 2 below another folder than
/// `/sys/fs/cgroup`.
pub fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Returns `configured` threads, or one for each core if it is 0, as in configurations.
pub fn threads(configured: usize) -> usize {
    match configured {
        0 => available(),
        threads => threads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_stands_for_all_cores() {
        assert!(available() >= 1);
        assert_eq!(threads(0), available());
        assert_eq!(threads(3), 3);
    }
}
