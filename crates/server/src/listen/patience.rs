//! How long a caller may be waited for: as long as is allowed, and not for long when the port stops.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::activity::QUIET;

/// Waits for what a caller sends.
pub(super) struct Patience {
    /// `None`: without a limit.
    time: Option<Duration>,
    stop: CancellationToken,
    // Each only when something has to be waited for, which for most calls never happens.
    late: Option<Pin<Box<Sleep>>>,
    stopping: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    quiet: Option<Pin<Box<Sleep>>>,
}

/// Why the caller is not waited for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// It had this much time.
    TimedOut(Duration),
    /// The port stops, and the caller was silent for a moment.
    Stopping,
}

impl Patience {
    /// For `time`, or until `stop` is cancelled and nothing comes.
    pub(super) fn new(time: Option<Duration>, stop: CancellationToken) -> Self {
        Self {
            time,
            stop,
            late: None,
            stopping: None,
            quiet: None,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.quiet = None;
    }

    /// All came that had to come in time; what comes next has its own time.
    pub(super) fn begin_anew(&mut self) {
        self.heard();
        self.late = None;
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

    /// Waits until the caller has had its time.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        if let Some(time) = self.time {
            let late = self.late.get_or_insert_with(|| Box::pin(sleep(time)));
            if late.as_mut().poll(context).is_ready() {
                return Poll::Ready(Over::TimedOut(time));
            }
        }
        ready!(self.poll_stop(context));
        let quiet = self.quiet.get_or_insert_with(|| Box::pin(sleep(QUIET)));
        quiet.as_mut().poll(context).map(|()| Over::Stopping)
    }
}
