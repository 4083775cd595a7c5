//! What the service counts, under its Prometheus names: Triton's, where Triton has one.
//!
//! Counters are copied from the versions' statistics when somebody looks, so that counting costs a
//! request nothing.

use std::{collections::BTreeMap, fmt, future, io, sync::Arc, time::Duration};

use axum::{Router, http::header, routing::get};
use common::model_store::ModelName;
use metrics::{counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{Catalog, ServedModel},
    statistics::{FailureReason, Histograms, Timed, Totals},
};

/// Every metric of the service. All have the labels `model` and `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Counter: requests answered.
    RequestSuccess,
    /// Counter by `reason`: requests refused or failed.
    RequestFailure,
    /// Counter: samples inferred.
    InferenceCount,
    /// Counter: executions of the model.
    ExecutionCount,
    /// Counter: time from arrival to answer.
    RequestDuration,
    /// Counter: time in the queue.
    QueueDuration,
    /// Counter: time to put batches together.
    ComputeInputDuration,
    /// Counter: time in ONNX Runtime.
    ComputeInferDuration,
    /// Counter: time to take results apart.
    ComputeOutputDuration,
    /// Gauge: requests that wait.
    PendingRequests,
    /// Gauge without the label `version`: the version that serves.
    ActiveVersion,
    /// Histogram: time from a request's arrival to its answer.
    RequestSeconds,
    /// Histogram: samples an execution.
    BatchSize,
}

enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::RequestSuccess,
        Self::RequestFailure,
        Self::InferenceCount,
        Self::ExecutionCount,
        Self::RequestDuration,
        Self::QueueDuration,
        Self::ComputeInputDuration,
        Self::ComputeInferDuration,
        Self::ComputeOutputDuration,
        Self::PendingRequests,
        Self::ActiveVersion,
        Self::RequestSeconds,
        Self::BatchSize,
    ];

    /// The name that Prometheus sees.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestSuccess => "nv_inference_request_success",
            Self::RequestFailure => "nv_inference_request_failure",
            Self::InferenceCount => "nv_inference_count",
            Self::ExecutionCount => "nv_inference_exec_count",
            Self::RequestDuration => "nv_inference_request_duration_us",
            Self::QueueDuration => "nv_inference_queue_duration_us",
            Self::ComputeInputDuration => "nv_inference_compute_input_duration_us",
            Self::ComputeInferDuration => "nv_inference_compute_infer_duration_us",
            Self::ComputeOutputDuration => "nv_inference_compute_output_duration_us",
            Self::PendingRequests => "nv_inference_pending_request_count",
            Self::ActiveVersion => "retort_inference_active_version",
            Self::RequestSeconds => "retort_inference_request_seconds",
            Self::BatchSize => "retort_inference_batch_size",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::RequestSuccess => "Requests answered.",
            Self::RequestFailure => "Requests refused or failed, by reason.",
            Self::InferenceCount => "Samples inferred.",
            Self::ExecutionCount => "Executions of the model.",
            Self::RequestDuration => "Time from arrival to answer, microseconds.",
            Self::QueueDuration => "Time of requests in the queue, microseconds.",
            Self::ComputeInputDuration => "Time of requests in batches put together, microseconds.",
            Self::ComputeInferDuration => "Time of requests in ONNX Runtime, microseconds.",
            Self::ComputeOutputDuration => "Time of requests in results taken apart, microseconds.",
            Self::PendingRequests => "Requests that wait.",
            Self::ActiveVersion => "The version that serves.",
            Self::RequestSeconds => "Time from a request's arrival to its answer, seconds.",
            Self::BatchSize => "Samples an execution.",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::PendingRequests | Self::ActiveVersion => Kind::Gauge,
            Self::RequestSeconds => Kind::Histogram(&REQUEST_SECONDS_BUCKETS),
            Self::BatchSize => Kind::Histogram(&BATCH_SIZE_BUCKETS),
            Self::RequestSuccess
            | Self::RequestFailure
            | Self::InferenceCount
            | Self::ExecutionCount
            | Self::RequestDuration
            | Self::QueueDuration
            | Self::ComputeInputDuration
            | Self::ComputeInferDuration
            | Self::ComputeOutputDuration => Kind::Counter,
        }
    }

    fn describe(self) {
        match self.kind() {
            Kind::Counter => metrics::describe_counter!(self.name(), self.help()),
            Kind::Gauge => metrics::describe_gauge!(self.name(), self.help()),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name(), self.help()),
        }
    }
}

const REQUEST_SECONDS_BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

const BATCH_SIZE_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

/// How often the exporter tidies its histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Where the service's metrics are kept.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in Metric::ALL {
            if let Kind::Histogram(buckets) = metric.kind() {
                let matcher = Matcher::Full(metric.name().to_owned());
                builder = builder.set_buckets_for_metric(matcher, buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        with_local_recorder(&recorder, || {
            Metric::ALL.into_iter().for_each(Metric::describe)
        });
        Ok(Self { recorder })
    }

    pub(crate) fn histograms(&self, model: &ModelName, version: u64) -> Histograms {
        let labels = labels(model, version);
        with_local_recorder(&self.recorder, || Histograms {
            request_seconds: histogram!(Metric::RequestSeconds.name(), &labels),
            batch_size: histogram!(Metric::BatchSize.name(), &labels),
        })
    }

    fn render(&self, models: &BTreeMap<ModelName, Arc<ServedModel>>) -> String {
        with_local_recorder(&self.recorder, || {
            for (name, served) in models {
                let version = served.active.version;
                let pending = served.active.batcher.pending();
                let name_label = [("model", name.to_string())];
                gauge!(Metric::ActiveVersion.name(), &name_label).set(version as f64);
                for (version, statistics) in &served.statistics {
                    let labels = labels(name, *version);
                    set_counters(&labels, &statistics.totals());
                    let waiting = if *version == served.active.version {
                        pending
                    } else {
                        0
                    };
                    gauge!(Metric::PendingRequests.name(), &labels).set(waiting as f64);
                }
            }
        });
        self.recorder.handle().render()
    }
}

type Labels = [(&'static str, String); 2];

fn labels(model: &ModelName, version: u64) -> Labels {
    [
        ("model", model.to_string()),
        ("version", version.to_string()),
    ]
}

fn set_counters(labels: &Labels, totals: &Totals) {
    let microseconds = |timed: &Timed| timed.time.as_micros() as u64;
    let values = [
        (Metric::RequestSuccess, totals.success.count),
        (Metric::InferenceCount, totals.inferences),
        (Metric::ExecutionCount, totals.executions),
        (Metric::RequestDuration, microseconds(&totals.success)),
        (Metric::QueueDuration, microseconds(&totals.queue)),
        (
            Metric::ComputeInputDuration,
            microseconds(&totals.compute_input),
        ),
        (
            Metric::ComputeInferDuration,
            microseconds(&totals.compute_infer),
        ),
        (
            Metric::ComputeOutputDuration,
            microseconds(&totals.compute_output),
        ),
    ];
    for (metric, value) in values {
        counter!(metric.name(), labels).absolute(value);
    }
    for reason in FailureReason::ALL {
        let failures = totals
            .failures
            .get(&reason)
            .map_or(0, |failure| failure.count);
        let [model, version] = labels.clone();
        let labels = [model, version, ("reason", reason.name().to_owned())];
        counter!(Metric::RequestFailure.name(), &labels).absolute(failures);
    }
}

/// Serves `/metrics` until `stop`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    catalog: Arc<Catalog>,
    stop: CancellationToken,
) -> io::Result<()> {
    let upkeep = metrics.recorder.handle();
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    let keep_up = async move {
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    };
    let render = move || {
        let text = metrics.render(&catalog.models());
        future::ready(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
    };
    let router = Router::new().route("/metrics", get(render));
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        served = server => served,
        () = keep_up => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triton_names_are_kept_and_no_name_is_used_twice() {
        let mut names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        for name in ["nv_inference_request_success", "nv_inference_exec_count"] {
            assert!(names.contains(&name), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}
