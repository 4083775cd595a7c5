//! The statistics extension: the counts of versions as messages.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use proto::inference::{
    InferBatchStatistics, InferStatistics, MemoryUsage, ModelStatistics, ModelStatisticsRequest,
    ModelStatisticsResponse, StatisticDuration,
};

use crate::{
    catalog::{Catalog, no_such_model, no_such_version},
    error::InferenceError,
    loaded_version::LoadedVersion,
    statistics::{BatchTotals, Timed, Totals},
};

/// Triton's name of the memory that models are in.
const CPU: &str = "CPU";

/// The statistics of the versions that `request` names; an empty name selects all.
///
/// # Errors
/// If there is no such model or version.
pub(crate) fn statistics(
    catalog: &Catalog,
    request: &ModelStatisticsRequest,
) -> Result<ModelStatisticsResponse, InferenceError> {
    let models = catalog.models();
    if !request.name.is_empty() {
        let served = models.get(request.name.as_str());
        let served = served.ok_or_else(|| no_such_model(&request.name))?;
        let known = served
            .statistics
            .keys()
            .any(|version| version.to_string() == request.version);
        if !request.version.is_empty() && !known {
            return Err(no_such_version(&request.name, served, &request.version));
        }
    }
    let is_selected = |selector: &str, value: &str| selector.is_empty() || selector == value;
    let model_stats = models
        .iter()
        .filter(|(name, _)| is_selected(&request.name, name.as_str()))
        .flat_map(|(name, served)| {
            let versions = served.statistics.iter();
            versions.map(|(version, statistics)| {
                let loaded = served.loaded.get(version);
                ModelStatistics {
                    memory_usage: loaded
                        .map(|loaded| memory_usage(loaded))
                        .into_iter()
                        .collect(),
                    ..to_message(&statistics.totals(), name.as_str(), *version)
                }
            })
        })
        .filter(|statistics| is_selected(&request.version, &statistics.version))
        .collect();
    Ok(ModelStatisticsResponse { model_stats })
}

fn memory_usage(loaded: &LoadedVersion) -> MemoryUsage {
    MemoryUsage {
        r#type: CPU.to_owned(),
        id: 0,
        byte_size: loaded.memory_bytes,
    }
}

fn to_message(totals: &Totals, model: &str, version: u64) -> ModelStatistics {
    let fail = totals
        .failures
        .values()
        .fold(Timed::default(), |mut sum, failure| {
            sum.add(failure.count, failure.time);
            sum
        });
    let no_cache = Some(StatisticDuration::default());
    ModelStatistics {
        name: model.to_owned(),
        version: version.to_string(),
        last_inference: totals.last_inference.map_or(0, milliseconds),
        inference_count: totals.inferences,
        execution_count: totals.executions,
        inference_stats: Some(InferStatistics {
            success: duration(totals.success),
            fail: duration(fail),
            queue: duration(totals.queue),
            compute_input: duration(totals.compute_input),
            compute_infer: duration(totals.compute_infer),
            compute_output: duration(totals.compute_output),
            cache_hit: no_cache,
            cache_miss: no_cache,
        }),
        batch_stats: totals.batches.iter().map(batch).collect(),
        memory_usage: Vec::new(),
        // For models that answer a request several times; there are none.
        response_stats: HashMap::new(),
    }
}

fn batch((samples, totals): (&usize, &BatchTotals)) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: *samples as u64,
        compute_input: duration(totals.compute_input),
        compute_infer: duration(totals.compute_infer),
        compute_output: duration(totals.compute_output),
    }
}

fn duration(timed: Timed) -> Option<StatisticDuration> {
    Some(StatisticDuration {
        count: timed.count,
        ns: timed.time.as_nanos() as u64,
    })
}

fn milliseconds(time: SystemTime) -> u64 {
    // A time before 1970 becomes 0.
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::statistics::{Execution, FailureReason, VersionStatistics};

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
    fn samples_executions_and_requests_are_counted_separately() {
        let statistics = VersionStatistics::default();
        execute(&statistics, 8, 1, 3);
        execute(&statistics, 8, 1, 1);
        execute(&statistics, 1, 1, 1);
        let message = to_message(&statistics.totals(), "digits", 7);
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
        let message = to_message(&statistics.totals(), "digits", 7);
        assert_eq!((message.inference_count, message.execution_count), (8, 8));
        let [batch] = message.batch_stats.as_slice() else {
            panic!("{message:?}");
        };
        assert_eq!(batch.batch_size, 1);
        let timed = StatisticDuration { count: 8, ns: 100 };
        assert_eq!(batch.compute_infer, Some(timed));
    }

    #[test]
    fn every_request_counts_once_by_its_outcome() {
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
        let stats = to_message(&totals, "m", 1).inference_stats.unwrap();
        assert_eq!(stats.fail.unwrap().count, 3);
    }
}
