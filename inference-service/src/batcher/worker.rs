//! The thread of one session: takes batches, computes them, answers.

use std::time::Instant;

use bytes::Bytes;
use onnx_runtime::{Session, SessionError};
use tracing::error;

use super::{InputValues, Job, queue::JobQueue};
use crate::{
    error::InferenceError,
    statistics::{Execution, VersionStatistics},
};

/// Serves `queue` until it is closed and empty.
pub(super) fn work(mut session: Session, queue: &JobQueue, statistics: &VersionStatistics) {
    let _abandon = AbandonOnPanic(queue);
    let mut batch = Vec::new();
    let mut input = Vec::new();
    while queue.take(&mut batch) {
        compute(&mut session, &mut batch, &mut input, statistics);
    }
}

/// A queue that nobody empties must not take requests.
struct AbandonOnPanic<'q>(&'q JobQueue);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("a session's thread panicked; its model answers no more");
            self.0.abandon();
        }
    }
}

/// Computes and answers `batch`, which is empty afterwards. `input` is memory to use again.
fn compute(
    session: &mut Session,
    batch: &mut Vec<Job>,
    input: &mut Vec<f32>,
    statistics: &VersionStatistics,
) {
    let began = Instant::now();
    let samples = batch.iter().map(|job| job.samples).sum();
    gather(batch, input);
    let gathered = Instant::now();
    let logits = session.run(input, samples);
    let computed = Instant::now();
    let logits = match logits {
        Ok(logits) => to_le_bytes(&logits),
        Err(error) => return refuse(batch, &error),
    };
    // Before anybody is answered: a caller that asks for statistics next finds itself in them.
    statistics.executed(&Execution {
        samples,
        requests: batch.len(),
        queued: batch.iter().map(|job| began - job.enqueued).sum(),
        gathering: gathered - began,
        computing: computed - gathered,
        scattering: computed.elapsed(),
    });
    let bytes_a_sample = logits.len() / samples;
    let mut rest = logits;
    for job in batch.drain(..) {
        let answer = rest.split_to(job.samples * bytes_a_sample);
        // An error means that the caller has gone.
        let _ = job.reply.send(Ok(answer));
    }
}

/// Puts the values of all jobs, one after the other, into `input`.
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

fn refuse(batch: &mut Vec<Job>, error: &SessionError) {
    for job in batch.drain(..) {
        let _ = job.reply.send(Err(InferenceError::Session(error.clone())));
    }
}
