//! Dynamic batching: requests wait in a bounded queue. Each session thread takes as many as fit into a batch,
//! computes them together and answers each one.

mod queue;
mod replies;
mod spans;
mod worker;

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use onnx_runtime::Session;
use tokio::sync::{oneshot, watch};
use traces::Scope;

use crate::{config::ModelConfig, statistics::VersionStatistics};
use queue::JobQueue;
use replies::{Answer, Replies};

use worker::Worker;

pub(crate) use queue::PushError;

/// The input values of a request as received.
#[derive(Debug)]
pub(crate) enum InputValues {
    /// Little-endian f32.
    Raw(Bytes),
    /// Decoded values.
    Typed(Vec<f32>),
}

impl InputValues {
    /// The values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = f32> {
        let (raw, typed): (&[u8], &[f32]) = match self {
            Self::Raw(bytes) => (&bytes[..], &[][..]),
            Self::Typed(values) => (&[][..], &values[..]),
        };
        let (raw, _) = raw.as_chunks();
        let raw = raw.iter().map(|value| f32::from_le_bytes(*value));
        raw.chain(typed.iter().copied())
    }

    /// The first `count` values. Does not copy raw values.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn first(&self, count: usize) -> Self {
        match self {
            Self::Raw(bytes) => Self::Raw(bytes.slice(..count * size_of::<f32>())),
            Self::Typed(values) => Self::Typed(values[..count].to_vec()),
        }
    }
}

/// A request in the queue.
#[derive(Debug)]
pub(crate) struct Job {
    /// The values of `samples` samples.
    pub(crate) input: InputValues,
    /// From 1 to `max_batch_size`.
    pub(crate) samples: usize,
    /// When the request was queued.
    pub(crate) enqueued: Instant,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// The span of the request.
    pub(crate) scope: Scope,
    /// Receives the logits. Closed if the caller cancels.
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// The answer to a [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Computed {
    /// Little-endian f32 [samples, classes].
    pub(crate) logits: Bytes,
    pub(crate) times: ComputeTimes,
}

/// Where a request spent its time in the batcher, in the terms of Triton's statistics. The computation's times are
/// those of the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ComputeTimes {
    /// In the queue.
    pub(crate) queue: Duration,
    /// To assemble the batch.
    pub(crate) compute_input: Duration,
    /// In ONNX Runtime.
    pub(crate) compute_infer: Duration,
    /// To split the result.
    pub(crate) compute_output: Duration,
}

/// The queue of one model version and its session threads.
///
/// When it is dropped, the threads compute the queued requests and end.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: Arc<JobQueue>,
    /// Every thread holds a strong reference until its session is unloaded.
    sessions: Weak<()>,
}

impl Batcher {
    /// Starts one thread per session. Must be called within the async runtime. `changes` receives a message when a
    /// thread fails.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
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

    /// A reference that is dead once every session is unloaded, which happens after the batcher is dropped.
    pub(crate) fn sessions(&self) -> Weak<()> {
        Weak::clone(&self.sessions)
    }

    /// Whether a thread has failed, so that requests are not answered any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.queue.is_closed()
    }

    /// Has the effect of a panic in a thread.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.queue.abandon();
    }

    /// Queues a request without waiting.
    ///
    /// # Errors
    /// See [`PushError`].
    pub(crate) fn push(&self, job: Job) -> Result<(), PushError> {
        self.queue.push(job)
    }

    /// Number of queued requests.
    pub(crate) fn pending(&self) -> usize {
        self.queue.len()
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.close();
    }
}
