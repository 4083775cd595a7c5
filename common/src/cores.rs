//! The number of processor cores.

use std::{num::NonZero, thread};

/// Returns the number of cores that this process may use: affinity and the quota of its control group
/// count. At least one.
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
