//! Counts how this service follows a model store that other processes change.

use std::sync::atomic::{AtomicU64, Ordering};

/// The looks at the store since the start.
#[derive(Debug, Default)]
pub(crate) struct StorePolls {
    followed: AtomicU64,
    failed: AtomicU64,
}

impl StorePolls {
    /// The number of looks by outcome.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        [("followed", &self.followed), ("failed", &self.failed)]
            .map(|(outcome, count)| (outcome, count.load(Ordering::Acquire)))
    }

    /// Counts a look whose changes are served, or reported as some that cannot be.
    pub(super) fn count_followed(&self) {
        self.followed.fetch_add(1, Ordering::Release);
    }

    /// Counts a look without an answer of the store, or one whose changes the next look tries again.
    pub(super) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Release);
    }
}
