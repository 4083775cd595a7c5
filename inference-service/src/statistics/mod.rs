//! Exact counts and times of the requests of one model version. The service's own warm-up and golden
//! batches do not count.

mod distribution;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::error::InferenceError;

pub(crate) use distribution::Distribution;

/// Upper bounds of the histograms of times in seconds.
const SECONDS: [f64; 16] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0,
];

/// Upper bounds of the histogram of batch sizes in samples.
const BATCH_SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// The statistics of one version since its first activation in this process.
#[derive(Debug, Default)]
pub(crate) struct VersionStatistics {
    totals: Mutex<Totals>,
}

/// A count of events and their total time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

/// All counts and times of a version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Totals {
    /// Inferred samples.
    pub(crate) inferences: u64,
    /// Executions of the model.
    pub(crate) executions: u64,
    pub(crate) success: Timed,
    pub(crate) failures: BTreeMap<FailureReason, Timed>,
    /// The next four add up the times of each request's batch.
    pub(crate) queue: Timed,
    pub(crate) compute_input: Timed,
    pub(crate) compute_infer: Timed,
    pub(crate) compute_output: Timed,
    pub(crate) last_inference: Option<SystemTime>,
    /// By batch size.
    pub(crate) batches: BTreeMap<usize, BatchTotals>,
    /// Seconds from arrival to answer, of successful requests.
    pub(crate) request_seconds: Distribution,
    /// Seconds that requests waited in the queue.
    pub(crate) queue_seconds: Distribution,
    /// Samples per execution.
    pub(crate) batch_size: Distribution,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            inferences: 0,
            executions: 0,
            success: Timed::default(),
            failures: BTreeMap::new(),
            queue: Timed::default(),
            compute_input: Timed::default(),
            compute_infer: Timed::default(),
            compute_output: Timed::default(),
            last_inference: None,
            batches: BTreeMap::new(),
            request_seconds: Distribution::new(&SECONDS),
            queue_seconds: Distribution::new(&SECONDS),
            batch_size: Distribution::new(&BATCH_SIZES),
        }
    }
}

/// Counts and times of the executions with one batch size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BatchTotals {
    pub(crate) compute_input: Timed,
    pub(crate) compute_infer: Timed,
    pub(crate) compute_output: Timed,
}

/// Why requests fail, in Triton's categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureReason {
    /// The queue was full or the deadline passed.
    Rejected,
    /// The caller cancelled.
    Canceled,
    /// The model failed.
    Backend,
    /// The request was invalid.
    Other,
}

impl FailureReason {
    pub(crate) const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// Value of the metric's label `reason`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }

    fn of(error: &InferenceError) -> Self {
        match error {
            InferenceError::QueueFull { .. } | InferenceError::DeadlineExceeded => Self::Rejected,
            InferenceError::Session(_)
            | InferenceError::DecoderFailed
            | InferenceError::WorkerStopped { .. } => Self::Backend,
            InferenceError::Invalid { .. }
            | InferenceError::Image { .. }
            | InferenceError::NoSuchModel { .. }
            | InferenceError::NoSuchVersion { .. }
            | InferenceError::NotLoaded { .. } => Self::Other,
        }
    }
}

/// A successful execution of the requests that a session took from the queue together.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) samples: usize,
    /// Number of equal batches that the samples were computed in, one after another.
    pub(crate) batches: usize,
    /// Time to assemble the batch.
    pub(crate) gathering: Duration,
    /// Time in ONNX Runtime.
    pub(crate) computing: Duration,
    /// Time to split the result.
    pub(crate) scattering: Duration,
}

impl VersionStatistics {
    /// Begins to count a request. It counts as canceled unless [`RequestRecord::end`] is called.
    pub(crate) fn begin(&self) -> RequestRecord<'_> {
        RequestRecord {
            statistics: self,
            began: Instant::now(),
            ended: false,
        }
    }

    /// Counts an execution. `queued` has the time that each request waited in the queue.
    pub(crate) fn executed(
        &self,
        execution: &Execution,
        queued: impl ExactSizeIterator<Item = Duration>,
    ) {
        let requests = queued.len() as u64;
        let batches = execution.batches as u64;
        let batch_size = execution.samples / execution.batches;
        let mut totals = self.lock();
        totals.inferences += execution.samples as u64;
        totals.executions += batches;
        totals.queue.count += requests;
        for queued in queued {
            totals.queue.time += queued;
            totals.queue_seconds.record(queued.as_secs_f64(), 1);
        }
        totals.compute_input.add_each(requests, execution.gathering);
        totals.compute_infer.add_each(requests, execution.computing);
        totals
            .compute_output
            .add_each(requests, execution.scattering);
        totals.last_inference = Some(SystemTime::now());
        let batch = totals.batches.entry(batch_size).or_default();
        batch.compute_input.add(batches, execution.gathering);
        batch.compute_infer.add(batches, execution.computing);
        batch.compute_output.add(batches, execution.scattering);
        totals.batch_size.record(batch_size as f64, batches);
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        // No code under the lock can panic between two related changes.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in progress.
pub(crate) struct RequestRecord<'s> {
    statistics: &'s VersionStatistics,
    began: Instant,
    ended: bool,
}

impl RequestRecord<'_> {
    /// Counts the request by its outcome.
    pub(crate) fn end<T>(mut self, outcome: &Result<T, InferenceError>) {
        self.ended = true;
        match outcome {
            Ok(_) => {
                let elapsed = self.began.elapsed();
                let mut totals = self.statistics.lock();
                totals.success.add(1, elapsed);
                totals.request_seconds.record(elapsed.as_secs_f64(), 1);
            }
            Err(error) => self.fail(FailureReason::of(error)),
        }
    }

    /// Does not count the request, because another record does.
    pub(crate) fn discard(mut self) {
        self.ended = true;
    }

    fn fail(&self, reason: FailureReason) {
        let mut totals = self.statistics.lock();
        totals
            .failures
            .entry(reason)
            .or_default()
            .add(1, self.began.elapsed());
    }
}

impl Drop for RequestRecord<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.fail(FailureReason::Canceled);
        }
    }
}

impl Timed {
    pub(crate) fn add(&mut self, count: u64, time: Duration) {
        self.count += count;
        self.time += time;
    }

    /// Counts `count` events of this time each.
    fn add_each(&mut self, count: u64, time: Duration) {
        self.count += count;
        // Does not truncate: a batch has at most 4,096 requests.
        self.time += time * count as u32;
    }
}
