//! The compute thread.

use std::{io, sync::Arc, thread, time::Instant};

use soft_targets::{DrawSeeds, EncodeError, Encoder, Encoding, SoftTargets};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{Backend, BackendError, Description, LoadError, Readiness},
    batch::Batch,
    metrics,
    queue::{FairQueue, StreamId},
};

/// A batch on its way to the backend.
pub struct Job {
    /// The trainer's id of the batch.
    pub id: u64,
    /// The input.
    pub batch: Batch,
    /// The encoding of the answer.
    pub encoding: Encoding,
    /// For sampled encodings: one seed for each sample.
    pub seeds: DrawSeeds,
    /// Time of arrival.
    pub arrived: Instant,
    /// Receives the answer.
    pub answers: Box<dyn AnswerSink>,
    /// The batch's share of its stream's credit.
    pub permit: OwnedSemaphorePermit,
    /// The batch's share of the memory for queued batches.
    pub memory: Memory,
}

/// A share of the memory for queued batches, held until it is dropped.
pub struct Memory(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Bytes per permit of the memory semaphore, whose permits are u32.
const MEMORY_UNIT: usize = 1024;

/// Receives the answers for the batches of one stream.
pub trait AnswerSink: Send {
    /// Takes one answer.
    fn send(&self, answer: Answer);
}

/// The backend's answer for one batch.
pub struct Answer {
    /// The trainer's id of the batch.
    pub id: u64,
    /// The encoded logits, or the error.
    pub soft_targets: Result<SoftTargets, ComputeError>,
    /// The batch's share of its stream's credit.
    pub permit: OwnedSemaphorePermit,
}

/// A handle to the compute thread. Only that thread uses the backend.
#[derive(Clone)]
pub struct Compute {
    queue: Arc<FairQueue<Job>>,
    description: Arc<Description>,
    readiness: Option<Readiness>,
    memory: Arc<Semaphore>,
    stopped: CancellationToken,
}

impl Compute {
    /// Starts the thread and waits until it has loaded its backend with `load`. Queued batches take at most
    /// `max_queued_bytes` together.
    ///
    /// # Errors
    /// The error of `load`, after which the thread has ended.
    pub async fn start<B: Backend>(
        max_queued_bytes: usize,
        load: impl FnOnce() -> Result<B, LoadError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let queue = Arc::new(FairQueue::new());
        let stopped = CancellationToken::new();
        let (loaded, description) = oneshot::channel();
        let thread_queue = Arc::clone(&queue);
        // Cancelled even if the thread panics.
        let stop = stopped.clone().drop_guard();
        thread::Builder::new()
            .name("compute".into())
            .spawn(move || {
                let _stop = stop;
                match load() {
                    Ok(mut backend) => {
                        let description = Arc::new(backend.description().clone());
                        let readiness = backend.readiness();
                        if loaded.send(Ok((description, readiness))).is_ok() {
                            compute(&mut backend, &thread_queue);
                        }
                    }
                    // The receiver is dropped if the service stopped during loading.
                    Err(error) => drop(loaded.send(Err(error))),
                }
            })
            .map_err(StartError::Thread)?;
        let (description, readiness) = description.await.map_err(|_| StartError::Panicked)??;
        Ok(Self {
            queue,
            description,
            readiness,
            memory: Arc::new(Semaphore::new(max_queued_bytes.div_ceil(MEMORY_UNIT))),
            stopped,
        })
    }

    /// The description of the teacher and its input.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Changes of the model's readiness; `None` for a model in this process.
    pub fn readiness(&self) -> Option<Readiness> {
        self.readiness.clone()
    }

    /// Waits for memory for a batch of `bytes`, in order of arrival.
    pub async fn reserve(&self, bytes: usize) -> Memory {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.memory).acquire_many_owned(units).await;
        // Holds: no code closes the semaphore.
        Memory(permits.expect("the semaphore is open"))
    }

    /// Queues a batch of `stream`.
    ///
    /// # Errors
    /// Returns the job if the thread has ended.
    #[expect(
        clippy::result_large_err,
        reason = "the refused job is dropped at once"
    )]
    pub fn submit(&self, stream: StreamId, job: Job) -> Result<(), Job> {
        if self.stopped.is_cancelled() {
            return Err(job);
        }
        // Before `push`, so that the gauge never falls below zero.
        metrics::queued(1);
        let refused = self.queue.push(stream, job);
        refused.inspect_err(|_| metrics::unqueued(1))
    }

    /// Discards the queued batches of a stream that has ended.
    pub fn discard(&self, stream: StreamId) {
        metrics::unqueued(self.queue.discard(stream));
    }

    /// Ends the thread after its current batch and discards the queued batches.
    pub fn close(&self) {
        metrics::unqueued(self.queue.close());
    }

    /// Waits until the thread has ended, after [`Compute::close`] or a panic.
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
        let soft_targets = logits.and_then(|logits| {
            Ok(encoder.encode_with_seeds(job.encoding, &logits, classes, &job.seeds)?)
        });
        let computed = started.elapsed();
        let samples = job.batch.samples;
        drop((job.batch, job.seeds, job.memory));
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
    /// The backend failed, for example for lack of memory; another teacher may succeed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The encoding cannot represent the logits, which are the same on every teacher with this identity.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why the compute thread did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system created no thread.
    #[error("cannot start the compute thread: {0}")]
    Thread(io::Error),
    /// The teacher cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A bug, or libtorch cannot run on this machine; the log contains the panic.
    #[error("the compute thread panicked while it loaded the teacher")]
    Panicked,
}
