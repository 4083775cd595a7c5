//! The thread of one session: takes batches from the queue, computes and answers them.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use onnx_runtime::{Session, SessionError};
use tokio::sync::watch;
use traces::Interval;
use tracing::error;

use super::{ComputeTimes, Computed, InputValues, Job, queue::JobQueue, replies::Replies, spans};
use crate::{
    error::InferenceError,
    statistics::{Execution, VersionStatistics},
};

/// The state of a session thread.
pub(super) struct Worker {
    pub(super) session: Session,
    /// Whether every sample is computed alone; see [`run`](Self::run).
    pub(super) deterministic: bool,
    pub(super) queue: Arc<JobQueue>,
    pub(super) replies: Replies,
    pub(super) statistics: Arc<VersionStatistics>,
    /// Receives a message if this thread fails.
    pub(super) changes: watch::Sender<()>,
}

impl Worker {
    /// Computes batches until the queue is closed and empty.
    pub(super) fn work(mut self) {
        let queue = Arc::clone(&self.queue);
        let changes = self.changes.clone();
        let _abandon = AbandonOnPanic(&queue, &changes);
        let mut batch = Vec::new();
        let mut input = Vec::new();
        while queue.take(&mut batch) {
            self.compute(&mut batch, &mut input);
        }
    }

    /// Computes and answers `batch`, which is empty afterwards. `input` is a reused buffer.
    fn compute(&mut self, batch: &mut Vec<Job>, input: &mut Vec<f32>) {
        let began = Instant::now();
        let samples = batch.iter().map(|job| job.samples).sum();
        gather(batch, input);
        let gathered = Instant::now();
        let logits = self.run(input, samples);
        let computed = Instant::now();
        let computing = Interval {
            began,
            ended: computed,
        };
        let logits = match logits {
            Ok(logits) => to_le_bytes(&logits),
            Err(error) => {
                spans::add(batch, samples, computing);
                return self.fail(batch, &error);
            }
        };
        // Before the answers are sent, so that statistics and traces requested afterwards include these requests.
        let execution = Execution {
            samples,
            batches: if self.deterministic { samples } else { 1 },
            gathering: gathered - began,
            computing: computed - gathered,
            scattering: computed.elapsed(),
        };
        let queued = batch.iter().map(|job| began - job.enqueued);
        self.statistics.executed(&execution, queued);
        spans::add(batch, samples, computing);
        let bytes_per_sample = logits.len() / samples;
        let mut remaining = logits;
        let answered = batch.drain(..).map(|job| {
            let answer = Computed {
                logits: remaining.split_to(job.samples * bytes_per_sample),
                times: ComputeTimes {
                    queue: began - job.enqueued,
                    compute_input: execution.gathering,
                    compute_infer: execution.computing,
                    compute_output: execution.scattering,
                },
            };
            (job.reply, Ok(answer))
        });
        self.replies.send(answered.collect());
    }

    /// Computes the logits of `samples` samples.
    ///
    /// ONNX Runtime selects kernels by shape, and kernels may add in different orders. For a deterministic model,
    /// every sample is a batch of 1, so the shape is always the same.
    fn run(&mut self, input: &[f32], samples: usize) -> Result<Vec<f32>, SessionError> {
        if !self.deterministic {
            return self.session.run(input, samples);
        }
        let sample_values = self.session.interface().sample_values();
        let mut logits = Vec::with_capacity(samples * self.session.interface().classes);
        for sample in input.chunks_exact(sample_values) {
            logits.extend(self.session.run(sample, 1)?);
        }
        Ok(logits)
    }

    /// Answers every request of `batch` with `error`.
    fn fail(&self, batch: &mut Vec<Job>, error: &SessionError) {
        let failed = batch
            .drain(..)
            .map(|job| (job.reply, Err(InferenceError::Session(error.clone()))));
        self.replies.send(failed.collect());
    }
}

/// Closes the queue if the thread panics, because no thread would empty it.
struct AbandonOnPanic<'q>(&'q JobQueue, &'q watch::Sender<()>);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("a session thread panicked; its model does not answer any more");
            self.0.abandon();
            self.1.send_replace(());
        }
    }
}

/// Concatenates the values of all jobs into `input`.
fn gather(batch: &[Job], input: &mut Vec<f32>) {
    input.clear();
    for job in batch {
        match &job.input {
            InputValues::Raw(bytes) => {
                let (values, _) = bytes.as_chunks();
                input.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
            }
            InputValues::Typed(values) => input.extend_from_slice(values),
        }
    }
}

fn to_le_bytes(values: &[f32]) -> Bytes {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    bytes.into()
}
