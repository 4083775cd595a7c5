//! What one model version has done, exactly. The service's own warm-up and golden batches are not
//! in it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use metrics::Histogram;
use proto::inference::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

use crate::error::InferenceError;

/// The counts of one version, from its first activation in this process on.
#[derive(Debug)]
pub struct VersionStatistics {
    totals: Mutex<Totals>,
    histograms: Histograms,
}

/// Distributions for Prometheus.
#[derive(Debug, Clone)]
pub(crate) struct Histograms {
    /// From a request's arrival to its answer, seconds; successful requests.
    pub(crate) request_seconds: Histogram,
    /// Samples an execution.
    pub(crate) batch_size: Histogram,
}

/// A count and the time that was spent on what it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

/// Everything that is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
            InferenceError::Session(_) | InferenceError::WorkerStopped { .. } => Self::Backend,
            InferenceError::Invalid { .. }
            | InferenceError::NoSuchModel { .. }
            | InferenceError::NoSuchVersion { .. } => Self::Other,
        }
    }
}

/// One successful execution of the model.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) samples: usize,
    pub(crate) requests: usize,
    /// Time in the queue, summed over the requests.
    pub(crate) queued: Duration,
    /// Time to put the batch together.
    pub(crate) gathering: Duration,
    /// Time in ONNX Runtime.
    pub(crate) computing: Duration,
    /// Time to take the result apart.
    pub(crate) scattering: Duration,
}

impl VersionStatistics {
    pub(crate) fn new(histograms: Histograms) -> Self {
        Self {
            totals: Mutex::default(),
            histograms,
        }
    }

    /// Counts a request, whatever becomes of it: as canceled unless [`RequestRecord::end`] is
    /// called.
    pub(crate) fn begin(&self) -> RequestRecord<'_> {
        RequestRecord {
            statistics: self,
            began: Instant::now(),
            ended: false,
        }
    }

    pub(crate) fn executed(&self, execution: &Execution) {
        let requests = execution.requests as u64;
        let mut totals = self.lock();
        totals.inferences += execution.samples as u64;
        totals.executions += 1;
        totals.queue.add(requests, execution.queued);
        totals.compute_input.add_each(requests, execution.gathering);
        totals.compute_infer.add_each(requests, execution.computing);
        totals
            .compute_output
            .add_each(requests, execution.scattering);
        totals.last_inference = Some(SystemTime::now());
        let batch = totals.batches.entry(execution.samples).or_default();
        batch.compute_input.add(1, execution.gathering);
        batch.compute_infer.add(1, execution.computing);
        batch.compute_output.add(1, execution.scattering);
        drop(totals);
        self.histograms.batch_size.record(execution.samples as f64);
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
                self.statistics.lock().success.add(1, elapsed);
                self.statistics.histograms.request_seconds.record(elapsed);
            }
            Err(error) => self.fail(FailureReason::of(error)),
        }
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

    fn statistics() -> VersionStatistics {
        VersionStatistics::new(Histograms {
            request_seconds: Histogram::noop(),
            batch_size: Histogram::noop(),
        })
    }

    fn execution(samples: usize, requests: usize) -> Execution {
        Execution {
            samples,
            requests,
            queued: Duration::from_nanos(10),
            gathering: Duration::from_nanos(1),
            computing: Duration::from_nanos(100),
            scattering: Duration::from_nanos(2),
        }
    }

    #[test]
    fn samples_executions_and_requests_are_counted_apart() {
        let statistics = statistics();
        statistics.executed(&execution(8, 3));
        statistics.executed(&execution(8, 1));
        statistics.executed(&execution(1, 1));
        let message = statistics.totals().to_message("digits", 7);
        assert_eq!(
            (message.name.as_str(), message.version.as_str()),
            ("digits", "7")
        );
        assert_eq!((message.inference_count, message.execution_count), (17, 3));
        assert!(message.last_inference > 0);
        let stats = message.inference_stats.unwrap();
        assert_eq!(stats.queue, Some(StatisticDuration { count: 5, ns: 30 }));
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
    fn every_request_counts_once_as_what_it_came_to() {
        let statistics = statistics();
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
