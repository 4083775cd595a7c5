//! The metrics of the service.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Every metric of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Gauge: batches that wait for the compute thread.
    QueueDepth,
    /// Gauge: connections that are open.
    Connections,
    /// Gauge: streams that are open.
    Streams,
    /// Counter by `outcome`, which is `answered` or `refused`.
    Batches,
    /// Counter: samples of answered batches.
    Samples,
    /// Histogram: time a batch kept the compute thread busy; its sum is the busy time.
    ComputeSeconds,
    /// Histogram: time from a batch's arrival to its answer.
    BatchSeconds,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 7] = [
        Metric::QueueDepth,
        Metric::Connections,
        Metric::Streams,
        Metric::Batches,
        Metric::Samples,
        Metric::ComputeSeconds,
        Metric::BatchSeconds,
    ];

    /// The name in Prometheus.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::QueueDepth => "retort_teacher_queue_depth",
            Metric::Connections => "retort_teacher_connections",
            Metric::Streams => "retort_teacher_streams",
            Metric::Batches => "retort_teacher_batches_total",
            Metric::Samples => "retort_teacher_samples_total",
            Metric::ComputeSeconds => "retort_teacher_compute_seconds",
            Metric::BatchSeconds => "retort_teacher_batch_seconds",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Metric::QueueDepth => "Batches that wait for the compute thread.",
            Metric::Connections => "Connections that are open.",
            Metric::Streams => "Streams that are open.",
            Metric::Batches => "Batches done, by outcome: answered or refused.",
            Metric::Samples => "Samples of answered batches; its rate is the speed.",
            Metric::ComputeSeconds => {
                "Time a batch kept the compute thread busy; the rate of its sum is the busy share."
            }
            Metric::BatchSeconds => "Time from a batch's arrival to its answer.",
        }
    }

    fn describe(self) {
        match self {
            Metric::QueueDepth | Metric::Connections | Metric::Streams => {
                metrics::describe_gauge!(self.name(), self.help());
            }
            Metric::Batches | Metric::Samples => {
                metrics::describe_counter!(self.name(), self.help());
            }
            Metric::ComputeSeconds | Metric::BatchSeconds => {
                metrics::describe_histogram!(self.name(), self.help());
            }
        }
    }
}

/// Bucket bounds of both histograms, seconds.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Installs the metrics recorder of the process.
///
/// # Errors
/// If the process has a recorder already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = [Metric::ComputeSeconds, Metric::BatchSeconds]
        .into_iter()
        .try_fold(PrometheusBuilder::new(), |builder, metric| {
            builder.set_buckets_for_metric(Matcher::Full(metric.name().into()), &BUCKETS)
        })?
        .install_recorder()?;
    for metric in Metric::ALL {
        metric.describe();
    }
    gauge!(Metric::QueueDepth.name()).set(0);
    gauge!(Metric::Connections.name()).set(0);
    gauge!(Metric::Streams.name()).set(0);
    for outcome in ["answered", "refused"] {
        counter!(Metric::Batches.name(), "outcome" => outcome).increment(0);
    }
    counter!(Metric::Samples.name()).increment(0);
    Ok(handle)
}

/// Records that batches entered the queue. The gauge is updated by differences, so the order in which threads
/// report them does not matter.
pub fn queued(batches: usize) {
    gauge!(Metric::QueueDepth.name()).increment(batches as f64);
}

/// Records that batches left the queue.
pub fn unqueued(batches: usize) {
    gauge!(Metric::QueueDepth.name()).decrement(batches as f64);
}

/// An open stream or connection, counted until it is dropped.
pub struct Open(Metric);

impl Open {
    /// Counts an open stream.
    pub fn stream() -> Self {
        Self::count(Metric::Streams)
    }

    /// Counts an open connection.
    pub fn connection() -> Self {
        Self::count(Metric::Connections)
    }

    fn count(metric: Metric) -> Self {
        gauge!(metric.name()).increment(1);
        Self(metric)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(self.0.name()).decrement(1);
    }
}

/// A batch that the compute thread has processed.
pub struct ComputedBatch {
    /// Number of samples.
    pub samples: usize,
    /// Whether it has logits.
    pub answered: bool,
    /// Time on the compute thread.
    pub computed: Duration,
    /// Time since it arrived.
    pub since_arrival: Duration,
}

/// Counts a batch that the compute thread has processed.
pub fn batch_computed(batch: &ComputedBatch) {
    histogram!(Metric::ComputeSeconds.name()).record(batch.computed);
    if batch.answered {
        counter!(Metric::Batches.name(), "outcome" => "answered").increment(1);
        counter!(Metric::Samples.name()).increment(batch.samples as u64);
        histogram!(Metric::BatchSeconds.name()).record(batch.since_arrival);
    } else {
        batch_refused();
    }
}

/// Counts a refused batch.
pub fn batch_refused() {
    counter!(Metric::Batches.name(), "outcome" => "refused").increment(1);
}
