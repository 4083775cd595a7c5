//! The service's metrics for Prometheus, with Triton's names where Triton has them.
//!
//! A scrape reads the statistics of the versions, so metrics cost a request nothing, and a version whose
//! statistics are dropped disappears from the metrics too.

mod text;

use std::{future, sync::Arc};

use axum::{Router, http::header, routing::get};
use common::telemetry;
use server::security::Staleness;

use crate::{capture::CaptureCounts, catalog::Catalog, publisher::StorePolls, refusals::Refusals};

/// Every metric of the service. Most have the labels `model` and `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Counter: answered requests.
    RequestSuccess,
    /// Counter by `reason`: failed requests.
    RequestFailure,
    /// Counter: inferred samples.
    InferenceCount,
    /// Counter: executions of the model.
    ExecutionCount,
    /// Counter: time from arrival to answer.
    RequestDuration,
    /// Counter: time in the queue.
    QueueDuration,
    /// Counter: time to assemble batches.
    ComputeInputDuration,
    /// Counter: time in ONNX Runtime.
    ComputeInferDuration,
    /// Counter: time to split results.
    ComputeOutputDuration,
    /// Counter by `protocol` and `code`: rejected calls of the whole service.
    RefusedRequests,
    /// Gauge: queued requests.
    PendingRequests,
    /// Gauge without the label `version`: the active version.
    ActiveVersion,
    /// Gauge: estimated memory of a loaded version.
    ModelMemory,
    /// Histogram: time from a request's arrival to its answer.
    RequestSeconds,
    /// Histogram: time of a request in the queue.
    QueueSeconds,
    /// Histogram: samples per execution.
    BatchSize,
    /// Gauge without the label `version`: the version on trial.
    CanaryVersion,
    /// Counter by `outcome`, without the label `version`: ended trials.
    CanaryTrials,
    /// Counter without the label `version`: compared samples of canaries.
    CanaryCompared,
    /// Counter without the label `version`: compared samples for which the canary agreed.
    CanaryAgreeing,
    /// Counter without the label `version`: selected requests that were not compared.
    CanaryNotCompared,
    /// Counter without labels: captured samples.
    CapturedSamples,
    /// Counter without labels: captured samples that are in the bucket.
    CaptureUploaded,
    /// Counter without labels: samples that were selected for capture and dropped.
    CaptureDropped,
    /// Counter by `outcome`: looks at a shared model store.
    StorePolls,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 25] = [
        Self::RequestSuccess,
        Self::RequestFailure,
        Self::InferenceCount,
        Self::ExecutionCount,
        Self::RequestDuration,
        Self::QueueDuration,
        Self::ComputeInputDuration,
        Self::ComputeInferDuration,
        Self::ComputeOutputDuration,
        Self::RefusedRequests,
        Self::PendingRequests,
        Self::ActiveVersion,
        Self::ModelMemory,
        Self::RequestSeconds,
        Self::QueueSeconds,
        Self::BatchSize,
        Self::CanaryVersion,
        Self::CanaryTrials,
        Self::CanaryCompared,
        Self::CanaryAgreeing,
        Self::CanaryNotCompared,
        Self::CapturedSamples,
        Self::CaptureUploaded,
        Self::CaptureDropped,
        Self::StorePolls,
    ];

    /// The name in Prometheus.
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
            Self::RefusedRequests => "retort_inference_refused_requests",
            Self::PendingRequests => "nv_inference_pending_request_count",
            Self::ActiveVersion => "retort_inference_active_version",
            Self::ModelMemory => "retort_inference_model_memory_bytes",
            Self::QueueSeconds => "retort_inference_queue_seconds",
            Self::RequestSeconds => "retort_inference_request_seconds",
            Self::BatchSize => "retort_inference_batch_size",
            Self::CanaryVersion => "retort_canary_version",
            Self::CanaryTrials => "retort_canary_trials",
            Self::CanaryCompared => "retort_canary_compared_samples",
            Self::CanaryAgreeing => "retort_canary_agreeing_samples",
            Self::CanaryNotCompared => "retort_canary_requests_not_compared",
            Self::CapturedSamples => "retort_capture_samples",
            Self::CaptureUploaded => "retort_capture_uploaded_samples",
            Self::CaptureDropped => "retort_capture_dropped_samples",
            Self::StorePolls => "retort_inference_store_polls",
        }
    }

    /// The help text in Prometheus.
    pub const fn help(self) -> &'static str {
        match self {
            Self::RequestSuccess => "Answered requests.",
            Self::RequestFailure => "Failed requests, by reason.",
            Self::InferenceCount => "Inferred samples.",
            Self::ExecutionCount => "Executions of the model.",
            Self::RequestDuration => "Time from arrival to answer, microseconds.",
            Self::QueueDuration => "Time of requests in the queue, microseconds.",
            Self::ComputeInputDuration => "Time to assemble the batches of requests, microseconds.",
            Self::ComputeInferDuration => "Time of requests in ONNX Runtime, microseconds.",
            Self::ComputeOutputDuration => "Time to split the results of requests, microseconds.",
            Self::RefusedRequests => "Rejected calls, by protocol and code.",
            Self::PendingRequests => "Queued requests.",
            Self::ActiveVersion => "The active version; 0 while the model is unloaded.",
            Self::ModelMemory => "Estimated memory of a loaded version, bytes.",
            Self::QueueSeconds => "Time of a request in the queue, seconds.",
            Self::RequestSeconds => "Time from a request's arrival to its answer, seconds.",
            Self::BatchSize => "Samples per execution.",
            Self::CanaryVersion => "The version on trial as a canary; 0 without one.",
            Self::CanaryTrials => "Ended trials of canaries, by outcome.",
            Self::CanaryCompared => "Samples of canaries whose class was compared.",
            Self::CanaryAgreeing => "Compared samples for which the canary agreed.",
            Self::CapturedSamples => "Captured samples in files.",
            Self::CaptureUploaded => "Captured samples in files that were uploaded to a bucket.",
            Self::CaptureDropped => {
                "Samples selected for capture and dropped: queue full, not written, spool full, or file unreadable."
            }
            Self::StorePolls => "Looks at a shared model store, by outcome.",
            Self::CanaryNotCompared => {
                "Requests selected for comparison without one: queue full, or no answer of the reference."
            }
        }
    }

    /// The type in Prometheus.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::PendingRequests
            | Self::ActiveVersion
            | Self::ModelMemory
            | Self::CanaryVersion => "gauge",
            Self::RequestSeconds | Self::QueueSeconds | Self::BatchSize => "histogram",
            Self::RequestSuccess
            | Self::RequestFailure
            | Self::InferenceCount
            | Self::ExecutionCount
            | Self::RequestDuration
            | Self::QueueDuration
            | Self::ComputeInputDuration
            | Self::ComputeInferDuration
            | Self::ComputeOutputDuration
            | Self::RefusedRequests
            | Self::CanaryTrials
            | Self::CanaryCompared
            | Self::CanaryAgreeing
            | Self::CanaryNotCompared
            | Self::CapturedSamples
            | Self::CaptureUploaded
            | Self::CaptureDropped
            | Self::StorePolls => "counter",
        }
    }
}

/// The router of the metrics port.
pub(crate) fn router(
    catalog: Arc<Catalog>,
    refusals: Refusals,
    captured: Arc<CaptureCounts>,
    polls: Arc<StorePolls>,
    staleness: Staleness,
) -> Router {
    let render = move || {
        let models = text::render(&catalog.models(), &refusals, &captured, &polls);
        let text = models + &staleness.render() + &telemetry::metrics() + &traces::metrics();
        future::ready(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
    };
    Router::new().route("/metrics", get(render))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tritons_and_unique() {
        let mut names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        for name in ["nv_inference_request_success", "nv_inference_exec_count"] {
            assert!(names.contains(&name), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}
