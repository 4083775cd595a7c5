//! The time limit for data from a caller: the configured time, or a short time when the port stops.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::activity::QUIET;

/// Limits how long the server waits for data from one caller.
pub(super) struct ArrivalTimer {
    /// `None`: no limit.
    limit: Option<Duration>,
    stop: CancellationToken,
    // Each is created when the server first has to wait, which never happens in most calls.
    deadline: Option<Pin<Box<Sleep>>>,
    stopping: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    quiet: Option<Pin<Box<Sleep>>>,
}

/// Why the server no longer waits for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// The data did not arrive within this time.
    TimedOut(Duration),
    /// The port stops, and the caller sent nothing for a moment.
    Stopping,
}

impl ArrivalTimer {
    /// Expires after `limit`, or when `stop` is cancelled and no data arrives.
    pub(super) fn new(limit: Option<Duration>, stop: CancellationToken) -> Self {
        Self {
            limit,
            stop,
            deadline: None,
            stopping: None,
            quiet: None,
        }
    }

    /// Whether the port stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Records that some data arrived.
    pub(super) fn data_arrived(&mut self) {
        self.quiet = None;
    }

    /// Records that all data with the current deadline arrived; the next data has a new deadline.
    pub(super) fn restart(&mut self) {
        self.data_arrived();
        self.deadline = None;
    }

    /// Waits until the port stops.
    pub(super) fn poll_stop(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let stop = &self.stop;
        let stopping = self
            .stopping
            .get_or_insert_with(|| Box::pin(stop.clone().cancelled_owned()));
        if stop.is_cancelled() {
            return Poll::Ready(());
        }
        stopping.as_mut().poll(context)
    }

    /// Waits until the timer expires.
    pub(super) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<Expired> {
        if let Some(limit) = self.limit {
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
            if deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Expired::TimedOut(limit));
            }
        }
        ready!(self.poll_stop(context));
        let quiet = self.quiet.get_or_insert_with(|| Box::pin(sleep(QUIET)));
        quiet.as_mut().poll(context).map(|()| Expired::Stopping)
    }
}
