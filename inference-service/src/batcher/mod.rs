//! Dynamic batching: requests wait in a bounded queue; each session's thread takes as many as fit in
//! a batch, computes them together and answers each one.

mod queue;
mod replies;
mod worker;

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Instant,
};

use bytes::Bytes;
use onnx_runtime::Session;
use tokio::sync::{oneshot, watch};

use crate::{config::ModelConfig, statistics::VersionStatistics};
use queue::JobQueue;
use replies::{Answer, Replies};

use worker::Worker;

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
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// The queue of one model version and the threads that empty it.
///
/// Dropping it lets the threads compute what still waits, and end.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: Arc<JobQueue>,
    /// Held by every thread, until its session has been unloaded.
    sessions: Weak<()>,
}

impl Batcher {
    /// Starts a thread for every session. To be called within the async runtime. `changes` is told
    /// when a thread fails.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn start(
        sessions: Vec<Session>,
        config: &ModelConfig,
        statistics: &Arc<VersionStatistics>,
        changes: &watch::Sender<()>,
    ) -> io::Result<Self> {
        let loaded = Arc::new(());
        let batcher = Self {
            queue: Arc::new(JobQueue::new(config.batching)),
            sessions: Arc::downgrade(&loaded),
        };
        let replies = Replies::start();
        for session in sessions {
            let worker = Worker {
                session,
                deterministic: config.runtime.deterministic,
                queue: Arc::clone(&batcher.queue),
                replies: replies.clone(),
                statistics: Arc::clone(statistics),
                changes: changes.clone(),
            };
            let loaded = Arc::clone(&loaded);
            let work = move || {
                worker.work();
                drop(loaded);
            };
            thread::Builder::new()
                .name("session".to_owned())
                .spawn(work)?;
        }
        Ok(batcher)
    }

    /// Dead when every session has been unloaded, which is some time after the batcher is dropped.
    pub(crate) fn sessions(&self) -> Weak<()> {
        Weak::clone(&self.sessions)
    }

    /// Whether a thread has failed: no request is answered any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.queue.is_closed()
    }

    /// What the panic of a thread does.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.queue.abandon();
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
