//! Prometheus' text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    sync::Arc,
};

use artifacts::model_store::ModelName;

use super::Metric;
use crate::{
    capture::CaptureCounts,
    catalog::ServedModel,
    publisher::StorePolls,
    refusals::{Refusal, Refusals},
    statistics::{Distribution, FailureReason, Timed, Totals},
};

/// Renders the metrics of `models`, and the counts of rejected calls, captured samples and looks at the model store.
pub(super) fn render(
    models: &BTreeMap<ModelName, Arc<ServedModel>>,
    refusals: &Refusals,
    captured: &CaptureCounts,
    polls: &StorePolls,
) -> String {
    let counted: Vec<_> = models
        .iter()
        .flat_map(|(model, served)| {
            let versions = served.statistics.iter();
            versions.map(move |(version, statistics)| Counted {
                // Model names have no character that must be escaped.
                labels: format!("model=\"{model}\",version=\"{version}\""),
                totals: statistics.totals(),
                pending: served
                    .loaded
                    .get(version)
                    .map_or(0, |loaded| loaded.batcher.pending()),
            })
        })
        .collect();
    let mut text = Text::default();
    for metric in Metric::ALL {
        text.describe(metric);
        match metric {
            Metric::ActiveVersion => {
                for (model, served) in models {
                    // 0 while the model is unloaded.
                    let active = served.active.unwrap_or(0);
                    text.sample(metric.name(), &format!("model=\"{model}\""), active);
                }
            }
            Metric::RefusedRequests => {
                for (Refusal { protocol, code }, count) in refusals.counts() {
                    let labels = format!("protocol=\"{protocol}\",code=\"{code}\"");
                    text.sample(metric.name(), &labels, count);
                }
            }
            Metric::ModelMemory => {
                for loaded in models.values().flat_map(|served| served.loaded.values()) {
                    let (model, version) = (&loaded.model, loaded.version);
                    let labels = format!("model=\"{model}\",version=\"{version}\"");
                    text.sample(metric.name(), &labels, loaded.memory_bytes);
                }
            }
            Metric::CanaryVersion
            | Metric::CanaryTrials
            | Metric::CanaryCompared
            | Metric::CanaryAgreeing
            | Metric::CanaryNotCompared => {
                for (model, served) in models {
                    text.canary(metric, &format!("model=\"{model}\""), served);
                }
            }
            Metric::CapturedSamples => {
                text.line(format_args!("{} {}", metric.name(), captured.written()));
            }
            Metric::CaptureUploaded => {
                text.line(format_args!("{} {}", metric.name(), captured.uploaded()));
            }
            Metric::CaptureDropped => {
                text.line(format_args!("{} {}", metric.name(), captured.dropped()));
            }
            Metric::StorePolls => {
                for (outcome, count) in polls.counts() {
                    text.sample(metric.name(), &format!("outcome=\"{outcome}\""), count);
                }
            }
            metric => counted
                .iter()
                .for_each(|counted| text.counted(metric, counted)),
        }
    }
    text.0
}

/// The statistics of one version.
struct Counted {
    labels: String,
    totals: Totals,
    pending: usize,
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn describe(&mut self, metric: Metric) {
        let (name, help, kind) = (metric.name(), metric.help(), metric.kind());
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn counted(&mut self, metric: Metric, counted: &Counted) {
        let Counted {
            labels,
            totals,
            pending,
        } = counted;
        let name = metric.name();
        let microseconds = |timed: &Timed| timed.time.as_micros() as u64;
        match metric {
            Metric::RequestSuccess => self.sample(name, labels, totals.success.count),
            Metric::RequestFailure => {
                for reason in FailureReason::ALL {
                    let failures = totals.failures.get(&reason);
                    let count = failures.map_or(0, |failures| failures.count);
                    let labels = format!("{labels},reason=\"{}\"", reason.name());
                    self.sample(name, &labels, count);
                }
            }
            Metric::InferenceCount => self.sample(name, labels, totals.inferences),
            Metric::ExecutionCount => self.sample(name, labels, totals.executions),
            Metric::RequestDuration => self.sample(name, labels, microseconds(&totals.success)),
            Metric::QueueDuration => self.sample(name, labels, microseconds(&totals.queue)),
            Metric::ComputeInputDuration => {
                self.sample(name, labels, microseconds(&totals.compute_input));
            }
            Metric::ComputeInferDuration => {
                self.sample(name, labels, microseconds(&totals.compute_infer));
            }
            Metric::ComputeOutputDuration => {
                self.sample(name, labels, microseconds(&totals.compute_output));
            }
            Metric::PendingRequests => self.sample(name, labels, pending),
            Metric::RequestSeconds => self.histogram(name, labels, &totals.request_seconds),
            Metric::QueueSeconds => self.histogram(name, labels, &totals.queue_seconds),
            Metric::BatchSize => self.histogram(name, labels, &totals.batch_size),
            // Rendered above, or by `canary`.
            Metric::ActiveVersion
            | Metric::ModelMemory
            | Metric::RefusedRequests
            | Metric::CanaryVersion
            | Metric::CanaryTrials
            | Metric::CanaryCompared
            | Metric::CanaryAgreeing
            | Metric::CanaryNotCompared
            | Metric::CapturedSamples
            | Metric::CaptureUploaded
            | Metric::CaptureDropped
            | Metric::StorePolls => {}
        }
    }

    fn canary(&mut self, metric: Metric, labels: &str, served: &ServedModel) {
        let (name, counts) = (metric.name(), &served.canaries);
        match metric {
            Metric::CanaryVersion => self.sample(name, labels, served.canary()),
            Metric::CanaryCompared => self.sample(name, labels, counts.compared()),
            Metric::CanaryAgreeing => self.sample(name, labels, counts.agreeing()),
            Metric::CanaryNotCompared => self.sample(name, labels, counts.not_compared()),
            // Of the metrics about canaries, the last one.
            _ => {
                for (outcome, count) in counts.outcomes() {
                    let labels = format!("{labels},outcome=\"{}\"", outcome.name());
                    self.sample(name, &labels, count);
                }
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &str, distribution: &Distribution) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in distribution.cumulative() {
            self.sample(&bucket, &format!("{labels},le=\"{bound}\""), count);
        }
        let count = distribution.count();
        self.sample(&bucket, &format!("{labels},le=\"+Inf\""), count);
        self.sample(&format!("{name}_sum"), labels, distribution.sum());
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("{name}{{{labels}}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}
