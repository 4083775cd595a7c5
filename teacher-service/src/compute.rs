//! The one thread that computes.

use std::{io, sync::Arc, thread, time::Instant};

use soft_targets::{EncodeError, Encoder, Encoding, SoftTargets};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{Backend, BackendError, Description, LoadError},
    batch::Batch,
    metrics,
    queue::{FairQueue, StreamId},
    stream::Answers,
};

/// A batch on its way to the backend.
pub struct Job {
    /// The trainer's name for it.
    pub id: u64,
    /// The input.
    pub batch: Batch,
    /// How the answer is encoded.
    pub encoding: Encoding,
    /// When it arrived.
    pub arrived: Instant,
    /// Where the answer goes.
    pub answers: Answers,
    /// The batch's share of its stream's credit.
    pub permit: OwnedSemaphorePermit,
    /// The batch's part of the memory for all batches.
    pub memory: Memory,
}

/// A part of the memory for batches that wait, taken until it is dropped.
pub struct Memory(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Memory is counted in these, bytes: a semaphore's permits are u32.
const MEMORY_UNIT: usize = 1024;

/// What the backend answered for one batch.
pub struct Answer {
    /// The trainer's name for the batch.
    pub id: u64,
    /// Encoded logits, or why there are none.
    pub soft_targets: Result<SoftTargets, ComputeError>,
    /// The batch's share of its stream's credit.
    pub permit: OwnedSemaphorePermit,
}

/// A handle to the compute thread. Everything of the engine lives on that thread alone.
#[derive(Clone)]
pub struct Compute {
    queue: Arc<FairQueue<Job>>,
    description: Arc<Description>,
    memory: Arc<Semaphore>,
    stopped: CancellationToken,
}

impl Compute {
    /// Starts the thread, which loads its backend by `load`, and waits until it is loaded. Batches
    /// that wait take at most `max_queued_bytes` together.
    ///
    /// # Errors
    /// What `load` refuses; no thread is left then.
    pub async fn start<B: Backend>(
        max_queued_bytes: usize,
        load: impl FnOnce() -> Result<B, LoadError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let queue = Arc::new(FairQueue::new());
        let stopped = CancellationToken::new();
        let (loaded, description) = oneshot::channel();
        let thread_queue = Arc::clone(&queue);
        // Cancels also when the thread panics.
        let stop = stopped.clone().drop_guard();
        thread::Builder::new()
            .name("compute".into())
            .spawn(move || {
                let _stop = stop;
                match load() {
                    Ok(mut backend) => {
                        let description = Arc::new(backend.description().clone());
                        if loaded.send(Ok(description)).is_ok() {
                            compute(&mut backend, &thread_queue);
                        }
                    }
                    // Nobody waits when the service was stopped while it loaded.
                    Err(error) => drop(loaded.send(Err(error))),
                }
            })
            .map_err(StartError::Thread)?;
        let description = description.await.map_err(|_| StartError::Panicked)??;
        Ok(Self {
            queue,
            description,
            memory: Arc::new(Semaphore::new(max_queued_bytes.div_ceil(MEMORY_UNIT))),
            stopped,
        })
    }

    /// What the teacher is and what it expects.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Waits for memory for a batch of `bytes`; first come, first served.
    pub async fn reserve(&self, bytes: usize) -> Memory {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.memory).acquire_many_owned(units).await;
        // Holds: the semaphore is never closed.
        Memory(permits.expect("memory is there as long as the service"))
    }

    /// Queues a batch of `stream`.
    ///
    /// # Errors
    /// The job, when the thread is gone.
    pub fn submit(&self, stream: StreamId, job: Job) -> Result<(), Job> {
        if self.stopped.is_cancelled() {
            return Err(job);
        }
        // Before it can be taken: the gauge never falls below nothing.
        metrics::queued(1);
        let refused = self.queue.push(stream, job);
        refused.inspect_err(|_| metrics::unqueued(1))
    }

    /// Drops what waits for a stream that is gone.
    pub fn discard(&self, stream: StreamId) {
        metrics::unqueued(self.queue.discard(stream));
    }

    /// Ends the thread after the batch that it is at; what waits is dropped.
    pub fn close(&self) {
        metrics::unqueued(self.queue.close());
    }

    /// Waits until the thread has ended, by [`Compute::close`] or by a fault.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

fn compute(backend: &mut impl Backend, queue: &FairQueue<Job>) {
    let classes = backend.description().class_names.len();
    let mut encoder = Encoder::default();
    while let Some(job) = queue.pop() {
        metrics::unqueued(1);
        let started = Instant::now();
        let logits = backend.logits(&job.batch).map_err(ComputeError::from);
        let soft_targets =
            logits.and_then(|logits| Ok(encoder.encode(job.encoding, &logits, classes)?));
        let computed = started.elapsed();
        let samples = job.batch.samples;
        drop((job.batch, job.memory));
        metrics::batch_computed(&metrics::ComputedBatch {
            samples,
            answered: soft_targets.is_ok(),
            computed,
            since_arrival: job.arrived.elapsed(),
        });
        job.answers.send(Answer {
            id: job.id,
            soft_targets,
            permit: job.permit,
        });
    }
}

/// Why a batch has no soft targets.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The engine failed, as when memory is short: another teacher may do better.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The encoding cannot hold the logits, which every teacher of this identity gives.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why there is no compute thread.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system gives no thread.
    #[error("cannot start the compute thread: {0}")]
    Thread(io::Error),
    /// The teacher cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A bug, or libtorch cannot run here; the log has the panic's text.
    #[error("the compute thread panicked while it loaded the teacher")]
    Panicked,
}
