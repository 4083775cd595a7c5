//! Dynamic batching: requests wait in a bounded queue; each session's thread takes as many as fit in
//! a batch, computes them together and answers each one.

mod queue;
mod worker;

use std::{io, sync::Arc, thread, time::Instant};

use bytes::Bytes;
use onnx_runtime::Session;
use tokio::sync::oneshot;

use crate::{config::BatchingConfig, error::InferenceError, statistics::VersionStatistics};
use queue::JobQueue;

pub(crate) use queue::Refused;

/// One request's values, as they came over the wire.
#[derive(Debug)]
pub(crate) enum InputValues {
    /// Little-endian f32.
    Raw(Bytes),
    /// Decoded by protobuf.
    Typed(Vec<f32>),
}

/// One request on its way through a batcher.
#[derive(Debug)]
pub(crate) struct Job {
    /// `samples` × the values of one sample.
    pub(crate) input: InputValues,
    /// From 1 to `max_batch_size`.
    pub(crate) samples: usize,
    /// When it was put into the queue.
    pub(crate) enqueued: Instant,
    /// When its caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Takes the logits, little-endian f32 [samples, classes]. Closed when the caller has gone.
    pub(crate) reply: oneshot::Sender<Result<Bytes, InferenceError>>,
}

/// The queue of one model version and the threads that empty it.
///
/// Dropping it lets the threads compute what still waits, and end.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: Arc<JobQueue>,
}

impl Batcher {
    /// Starts a thread for every session.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn start(
        sessions: Vec<Session>,
        config: BatchingConfig,
        statistics: &Arc<VersionStatistics>,
    ) -> io::Result<Self> {
        let batcher = Self {
            queue: Arc::new(JobQueue::new(config)),
        };
        for session in sessions {
            let queue = Arc::clone(&batcher.queue);
            let statistics = Arc::clone(statistics);
            thread::Builder::new()
                .name("session".to_owned())
                .spawn(move || worker::work(session, &queue, &statistics))?;
        }
        Ok(batcher)
    }

    /// Puts a request into the queue, without waiting.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) fn push(&self, job: Job) -> Result<(), Refused> {
        self.queue.push(job)
    }

    /// Requests that wait.
    pub(crate) fn pending(&self) -> usize {
        self.queue.len()
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.close();
    }
}
