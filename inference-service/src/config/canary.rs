//! The rule for canaries.

use std::time::Duration;

use common::config::{Problems, Validate};
use serde::Deserialize;
use server::grpc;

/// Largest share of a canary: the active version must be observed, too.
pub(crate) const LARGEST_SHARE: f64 = 0.5;

/// Latencies of each version that are kept; so many requests the rule can ask for at most.
pub(crate) const LATENCIES: u64 = 4096;

/// How a canary is tried, and the rule that promotes it or rolls it back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryConfig {
    /// The share of the requests that a published version gets on trial unless its publish gives another; 0: it serves
    /// at once.
    pub share: f64,
    /// Requests to each version, and compared samples, that a decision needs.
    pub min_requests: u64,
    /// Largest median latency of the canary, as a multiple of that of the active version.
    pub max_latency_ratio: f64,
    /// Smallest share of the compared samples for which the canary gives the same class.
    pub min_agreement: f64,
    /// After this time without a decision, the canary is rolled back, seconds.
    pub decide_within_seconds: u64,
    /// The share of the canary's requests whose answers are compared.
    pub compare_share: f64,
    /// `host:port` of the teacher that the canary is compared with; without it, the active version.
    pub teacher: Option<String>,
}

impl CanaryConfig {
    /// After this time without a decision, the canary is rolled back.
    pub fn decide_within(&self) -> Duration {
        Duration::from_secs(self.decide_within_seconds)
    }
}

impl Validate for CanaryConfig {
    fn validate(&self, problems: &mut Problems) {
        let mut within = |field: &str, value: f64, least: f64, most: f64| {
            problems.require_within(&format!("canary.{field}"), value, least..=most);
        };
        within("share", self.share, 0.0, LARGEST_SHARE);
        within("max_latency_ratio", self.max_latency_ratio, 0.1, 1000.0);
        within("min_agreement", self.min_agreement, 0.0, 1.0);
        within("compare_share", self.compare_share, 0.001, 1.0);
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            problems.require_within(&format!("canary.{field}"), value, least..=most);
        };
        within("min_requests", self.min_requests, 1, LATENCIES);
        within(
            "decide_within_seconds",
            self.decide_within_seconds,
            1,
            2_592_000,
        );
        if let Some(teacher) = &self.teacher {
            let is_address = grpc::endpoint(teacher).is_ok();
            let shown = format!("\"{teacher}\"");
            problems.require(is_address, "canary.teacher", shown, "must be host:port");
        }
    }
}
