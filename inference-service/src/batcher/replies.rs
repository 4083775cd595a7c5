//! How answers get from the sessions' threads to the requests that wait for them.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::error::InferenceError;

/// The answer to one request.
pub(super) type Answer = Result<Bytes, InferenceError>;

/// Where a session's thread leaves the answers of a batch.
///
/// Each answer wakes a task, and to wake a task from a thread outside the runtime may cost a system
/// call and a switch to the runtime's thread; on a machine with few processors that thread then
/// writes one response, and sleeps until the next. So the thread hands over all answers of a batch
/// at once, to a task which wakes the others from inside, where it costs nothing.
#[derive(Debug, Clone)]
pub(super) struct Replies(mpsc::UnboundedSender<Vec<(oneshot::Sender<Answer>, Answer)>>);

impl Replies {
    /// Starts the task, which ends with the last clone.
    pub(super) fn start() -> Self {
        let (batches, mut answered) = mpsc::unbounded_channel::<Vec<_>>();
        tokio::spawn(async move {
            while let Some(batch) = answered.recv().await {
                for (reply, answer) in batch {
                    // An error means that the caller has gone.
                    let _ = oneshot::Sender::send(reply, answer);
                }
            }
        });
        Self(batches)
    }

    pub(super) fn send(&self, batch: Vec<(oneshot::Sender<Answer>, Answer)>) {
        // An error means that the runtime is ending, and nobody waits for an answer any more.
        let _ = self.0.send(batch);
    }
}
