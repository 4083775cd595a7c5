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

/// A warning if `configured` threads, the value of the key `key`, are more than the cores of [`available`].
pub fn excess(key: &str, configured: usize) -> Option<String> {
    excess_over(available(), key, configured)
}

fn excess_over(cores: usize, key: &str, configured: usize) -> Option<String> {
    let cpus = if cores == 1 { "CPU" } else { "CPUs" };
    (configured > cores).then(|| {
        format!(
            "{key} = {configured}, but this process may use {cores} {cpus} (by its affinity and the quota of its \
             control group), so the threads wait for each other: set {key} to {cores} or less"
        )
    })
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

    #[test]
    fn more_threads_than_cores_are_reported_with_both_numbers_and_the_key() {
        for fitting in [0, 1, 2] {
            assert_eq!(excess_over(2, "compute.threads", fitting), None);
        }
        let text = excess_over(2, "compute.threads", 3).unwrap();
        for part in [
            "compute.threads = 3, but",
            "2 CPUs",
            "set compute.threads to 2",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let text = excess_over(1, "threads", 2).unwrap();
        assert!(text.contains("may use 1 CPU (by"), "{text}");
    }
}
