//! What one model version has done, exactly. The service's own warm-up and golden batches are not
//! in it.

mod distribution;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use proto::inference::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

use crate::error::InferenceError;

pub(crate) use distribution::Distribution;

/// Upper bounds of the distributions of times, seconds.
const SECONDS: [f64; 16] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0,
];

/// Upper bounds of the distribution of batch sizes, samples.
const BATCH_SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// The counts of one version, from its first activation in this process on.
#[derive(Debug, Default)]
pub(crate) struct VersionStatistics {
    totals: Mutex<Totals>,
}

/// A count and the time that was spent on what it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

/// Everything that is counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Totals {
    /// Samples inferred.
    pub(crate) inferences: u64,
    /// Executions of the model.
    pub(crate) executions: u64,
    pub(crate) success: Timed,
    pub(crate) failures: BTreeMap<FailureReason, Timed>,
    /// These four add up, a request, the time of the batch that it was in.
    pub(crate) queue: Timed,
    pub(crate) compute_input: Timed,
    pub(crate) compute_infer: Timed,
    pub(crate) compute_output: Timed,
    last_inference: Option<SystemTime>,
    /// By samples an execution.
    batches: BTreeMap<usize, BatchTotals>,
    /// Seconds from a request's arrival to its answer; successful requests.
    pub(crate) request_seconds: Distribution,
    /// Seconds of a request in the queue.
    pub(crate) queue_seconds: Distribution,
    /// Samples an execution.
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct BatchTotals {
    compute_input: Timed,
    compute_infer: Timed,
    compute_output: Timed,
}

/// Why requests fail, in Triton's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureReason {
    /// Never computed: no room or no time.
    Rejected,
    /// The caller has gone.
    Canceled,
    /// The model failed.
    Backend,
    /// The request cannot be used.
    Other,
}

impl FailureReason {
    pub(crate) const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The value of the label `reason`.
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

/// What a session did, successfully, with the requests that it took from the queue together.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) samples: usize,
    /// Batches of the same size that the samples were computed in, one after the other.
    pub(crate) batches: usize,
    /// Time to put the batch together.
    pub(crate) gathering: Duration,
    /// Time in ONNX Runtime.
    pub(crate) computing: Duration,
    /// Time to take the result apart.
    pub(crate) scattering: Duration,
}

impl VersionStatistics {
    /// Counts a request, whatever becomes of it: as canceled unless [`RequestRecord::end`] is
    /// called.
    pub(crate) fn begin(&self) -> RequestRecord<'_> {
        RequestRecord {
            statistics: self,
            began: Instant::now(),
            ended: false,
        }
    }

    /// Counts an execution; `queued` is how long each of its requests was in the queue.
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
        // Nothing under the lock can panic between two changes that belong together.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way.
pub(crate) struct RequestRecord<'s> {
    statistics: &'s VersionStatistics,
    began: Instant,
    ended: bool,
}

impl RequestRecord<'_> {
    /// Counts the request as what it came to.
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

    /// Another record counts the request.
    pub(crate) fn forget(mut self) {
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
    fn add(&mut self, count: u64, time: Duration) {
        self.count += count;
        self.time += time;
    }

    fn add_each(&mut self, count: u64, time: Duration) {
        self.count += count;
        // No u32 overflow: a batch holds at most 4,096 requests.
        self.time += time * count as u32;
    }
}

impl Totals {
    /// The protocol's form.
    pub(crate) fn to_message(&self, model: &str, version: u64) -> ModelStatistics {
        let fail = self
            .failures
            .values()
            .fold(Timed::default(), |mut sum, failure| {
                sum.add(failure.count, failure.time);
                sum
            });
        let never = Some(StatisticDuration::default());
        ModelStatistics {
            name: model.to_owned(),
            version: version.to_string(),
            last_inference: self.last_inference.map_or(0, milliseconds),
            inference_count: self.inferences,
            execution_count: self.executions,
            inference_stats: Some(InferStatistics {
                success: self.success.to_message(),
                fail: fail.to_message(),
                queue: self.queue.to_message(),
                compute_input: self.compute_input.to_message(),
                compute_infer: self.compute_infer.to_message(),
                compute_output: self.compute_output.to_message(),
                cache_hit: never,
                cache_miss: never,
            }),
            batch_stats: self.batches.iter().map(batch_to_message).collect(),
            // What a version holds in memory is not counted here.
            memory_usage: Vec::new(),
            // No model answers a request more than once.
            response_stats: HashMap::new(),
        }
    }
}

impl Timed {
    fn to_message(self) -> Option<StatisticDuration> {
        Some(StatisticDuration {
            count: self.count,
            ns: self.time.as_nanos() as u64,
        })
    }
}

fn batch_to_message((samples, totals): (&usize, &BatchTotals)) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: *samples as u64,
        compute_input: totals.compute_input.to_message(),
        compute_infer: totals.compute_infer.to_message(),
        compute_output: totals.compute_output.to_message(),
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    // A clock before 1970 is shown as 1970.
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execute(statistics: &VersionStatistics, samples: usize, batches: usize, requests: usize) {
        let execution = Execution {
            samples,
            batches,
            gathering: Duration::from_nanos(1),
            computing: Duration::from_nanos(100),
            scattering: Duration::from_nanos(2),
        };
        let queued = (0..requests).map(|_| Duration::from_nanos(5));
        statistics.executed(&execution, queued);
    }

    #[test]
    fn samples_executions_and_requests_are_counted_apart() {
        let statistics = VersionStatistics::default();
        execute(&statistics, 8, 1, 3);
        execute(&statistics, 8, 1, 1);
        execute(&statistics, 1, 1, 1);
        let message = statistics.totals().to_message("digits", 7);
        assert_eq!(
            (message.name.as_str(), message.version.as_str()),
            ("digits", "7")
        );
        assert_eq!((message.inference_count, message.execution_count), (17, 3));
        assert!(message.last_inference > 0);
        let stats = message.inference_stats.unwrap();
        assert_eq!(stats.queue, Some(StatisticDuration { count: 5, ns: 25 }));
        assert_eq!(
            stats.compute_infer,
            Some(StatisticDuration { count: 5, ns: 500 })
        );
        let sizes: Vec<_> = message
            .batch_stats
            .iter()
            .map(|batch| (batch.batch_size, batch.compute_infer.unwrap()))
            .collect();
        let timed = |count, ns| StatisticDuration { count, ns };
        assert_eq!(sizes, [(1, timed(1, 100)), (8, timed(2, 200))]);
    }

    #[test]
    fn a_deterministic_model_executes_every_sample() {
        let statistics = VersionStatistics::default();
        execute(&statistics, 8, 8, 3);
        let message = statistics.totals().to_message("digits", 7);
        assert_eq!((message.inference_count, message.execution_count), (8, 8));
        let [batch] = message.batch_stats.as_slice() else {
            panic!("{message:?}");
        };
        assert_eq!(batch.batch_size, 1);
        let timed = StatisticDuration { count: 8, ns: 100 };
        assert_eq!(batch.compute_infer, Some(timed));
    }

    #[test]
    fn every_request_counts_once_as_what_it_came_to() {
        let statistics = VersionStatistics::default();
        statistics.begin().end(&Ok(()));
        statistics
            .begin()
            .end::<()>(&Err(InferenceError::DeadlineExceeded));
        statistics
            .begin()
            .end::<()>(&Err(InferenceError::QueueFull { capacity: 1 }));
        drop(statistics.begin());
        let totals = statistics.totals();
        let failures: Vec<_> = totals.failures.iter().map(|(r, t)| (*r, t.count)).collect();
        assert_eq!(totals.success.count, 1);
        assert_eq!(
            failures,
            [(FailureReason::Rejected, 2), (FailureReason::Canceled, 1)]
        );
        let stats = totals.to_message("m", 1).inference_stats.unwrap();
        assert_eq!(stats.fail.unwrap().count, 3);
    }
}
