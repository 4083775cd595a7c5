//! Passes answers from session threads to the waiting requests.

use tokio::sync::{mpsc, oneshot};

use super::Computed;
use crate::error::InferenceError;

/// The answer to one request.
pub(super) type Answer = Result<Computed, InferenceError>;

/// A channel for the answers of a batch.
///
/// Waking a task from a thread outside the runtime may cost a system call and a switch to the runtime's thread.
/// With few processors, that thread then writes one response and sleeps until the next. The session thread
/// therefore sends all answers of a batch at once, to a task that wakes the others within the runtime at
/// no such cost.
#[derive(Debug, Clone)]
pub(super) struct Replies(mpsc::UnboundedSender<Vec<(oneshot::Sender<Answer>, Answer)>>);

impl Replies {
    /// Starts the task, which ends when the last clone is dropped.
    pub(super) fn start() -> Self {
        let (batches, mut answered) = mpsc::unbounded_channel::<Vec<_>>();
        tokio::spawn(async move {
            while let Some(batch) = answered.recv().await {
                for (reply, answer) in batch {
                    // Fails if the caller has cancelled.
                    let _ = oneshot::Sender::send(reply, answer);
                }
            }
        });
        Self(batches)
    }

    /// Sends the answers of a batch.
    pub(super) fn send(&self, batch: Vec<(oneshot::Sender<Answer>, Answer)>) {
        // Fails while the runtime shuts down, when no request waits any more.
        let _ = self.0.send(batch);
    }
}
