//! Repeats requests to a bucket that fails for a while.

use std::{
    thread,
    time::{Duration, Instant},
};

use server::back_off::BackOff;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::error::BucketRunError;
use crate::metrics;

/// How often a waiting thread looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long requests are repeated before a run begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Persistence<'a> {
    /// The run, for messages.
    pub(super) url: &'a str,
    /// Longest time from the first failure of a request.
    pub(super) patience: Duration,
    /// Cancelling it ends the wait.
    pub(super) stop: &'a CancellationToken,
}

impl Persistence<'_> {
    /// Repeats `request` while it fails because the bucket does not answer. The request itself must end when the process is
    /// asked to stop; see [`Bucket::stopped_by`](object_storage::Bucket::stopped_by).
    ///
    /// # Errors
    /// The last error; [`BucketRunError::Stopped`].
    pub(super) fn repeat<T>(
        &self,
        mut request: impl FnMut() -> Result<T, BucketRunError>,
    ) -> Result<T, BucketRunError> {
        let mut pauses = pauses();
        let mut failed = None;
        loop {
            match request() {
                Err(BucketRunError::Bucket(error)) if error.is_stopped() => {
                    return Err(self.stopped());
                }
                Err(error)
                    if error.is_temporary()
                        && failed.get_or_insert_with(Instant::now).elapsed() < self.patience =>
                {
                    report(&error);
                }
                done => return done,
            }
            self.sleep(pauses.next_pause())?;
        }
    }

    /// Waits for so long.
    ///
    /// # Errors
    /// [`BucketRunError::Stopped`].
    pub(super) fn sleep(&self, pause: Duration) -> Result<(), BucketRunError> {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            self.check()?;
            thread::sleep(LOOK.min(pause));
        }
        Ok(())
    }

    /// Fails if the process was asked to stop.
    ///
    /// # Errors
    /// [`BucketRunError::Stopped`].
    pub(super) fn check(&self) -> Result<(), BucketRunError> {
        if self.stop.is_cancelled() {
            return Err(self.stopped());
        }
        Ok(())
    }

    fn stopped(&self) -> BucketRunError {
        BucketRunError::Stopped {
            url: self.url.to_owned(),
        }
    }
}

/// The pauses between two attempts.
pub(super) fn pauses() -> BackOff {
    BackOff::new(Duration::from_millis(500), Duration::from_secs(10))
}

/// Logs and counts a failed attempt that will be repeated.
pub(super) fn report(error: &BucketRunError) {
    metrics::bucket_attempt_failed();
    warn!(%error, "a request for the bucket of the run failed; tries again");
}
