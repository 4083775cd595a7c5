//! What the service counts, under its Prometheus names: Triton's, where Triton has one.
//!
//! Everything is read from the versions' statistics when somebody looks, so that it costs a request
//! nothing, and what is forgotten of a version there is forgotten here.

mod text;

use std::{future, sync::Arc};

use axum::{Router, http::header, routing::get};
use common::telemetry;
use server::security::Staleness;

use crate::{catalog::Catalog, refusals::Refusals};

/// Every metric of the service. All but two have the labels `model` and `version`.
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
    /// Counter by `protocol` and `code`, of the service as a whole: calls refused.
    RefusedRequests,
    /// Gauge: requests that wait.
    PendingRequests,
    /// Gauge without the label `version`: the version that serves.
    ActiveVersion,
    /// Gauge: memory of a loaded version, as estimated.
    ModelMemory,
    /// Histogram: time from a request's arrival to its answer.
    RequestSeconds,
    /// Histogram: time of a request in the queue.
    QueueSeconds,
    /// Histogram: samples an execution.
    BatchSize,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 16] = [
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
            Self::RefusedRequests => "retort_inference_refused_requests",
            Self::PendingRequests => "nv_inference_pending_request_count",
            Self::ActiveVersion => "retort_inference_active_version",
            Self::ModelMemory => "retort_inference_model_memory_bytes",
            Self::QueueSeconds => "retort_inference_queue_seconds",
            Self::RequestSeconds => "retort_inference_request_seconds",
            Self::BatchSize => "retort_inference_batch_size",
        }
    }

    /// What it tells, in a sentence.
    pub const fn help(self) -> &'static str {
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
            Self::RefusedRequests => "Calls refused, by protocol and code.",
            Self::PendingRequests => "Requests that wait.",
            Self::ActiveVersion => "The version that serves.",
            Self::ModelMemory => "Memory of a loaded version, as estimated, bytes.",
            Self::QueueSeconds => "Time of a request in the queue, seconds.",
            Self::RequestSeconds => "Time from a request's arrival to its answer, seconds.",
            Self::BatchSize => "Samples an execution.",
        }
    }

    /// Prometheus' type.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::PendingRequests | Self::ActiveVersion | Self::ModelMemory => "gauge",
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
            | Self::RefusedRequests => "counter",
        }
    }
}

/// Answers `/metrics`.
pub(crate) fn router(catalog: Arc<Catalog>, refusals: Refusals, staleness: Staleness) -> Router {
    let render = move || {
        let models = text::render(&catalog.models(), &refusals);
        let text = models + &staleness.render() + &telemetry::metrics();
        future::ready(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
    };
    Router::new().route("/metrics", get(render))
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
