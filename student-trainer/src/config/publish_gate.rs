//! Configuration of the bounds that a model must meet to be published.

use std::path::PathBuf;

use common::config::Problems;
use serde::{Deserialize, Serialize};

/// The bounds that the exported model must meet to be published; all that are given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishGateConfig {
    /// Least accuracy of the exported file on the validation samples, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f64>,
    /// Least share of the validation samples for which the teacher gives the same class, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_agreement: Option<f64>,
    /// Longest median latency of one sample in ONNX Runtime on one thread of the trainer's machine, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_us: Option<f64>,
    /// Folder of a finished run, which trained as many parameters without the teacher, relative to the working
    /// directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<PathBuf>,
    /// Least gain of accuracy over `baseline`, from 0 to 1; by default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_gain: Option<f64>,
}

impl PublishGateConfig {
    /// The first key that needs labelled validation samples.
    pub fn needs_accuracy(&self) -> Option<&'static str> {
        if self.min_accuracy.is_some() {
            Some("publish.gate.min_accuracy")
        } else if self.baseline.is_some() {
            Some("publish.gate.baseline")
        } else {
            None
        }
    }

    /// The first key that needs validation samples, labelled or not.
    pub fn needs_validation(&self) -> Option<&'static str> {
        let agreement = self.min_agreement.map(|_| "publish.gate.min_agreement");
        self.needs_accuracy().or(agreement)
    }

    pub(super) fn validate(&self, has_one_teacher: bool, problems: &mut Problems) {
        for (key, share) in [
            ("publish.gate.min_accuracy", self.min_accuracy),
            ("publish.gate.min_agreement", self.min_agreement),
            ("publish.gate.min_gain", self.min_gain),
        ] {
            if let Some(share) = share {
                let fits = (0.0..=1.0).contains(&share);
                problems.require(fits, key, share, "must be from 0 to 1");
            }
        }
        if let Some(agreement) = self.min_agreement {
            let key = "publish.gate.min_agreement";
            let needed = "needs [teacher] or a single named teacher, which is asked for the classes of the validation \
                          samples";
            problems.require(has_one_teacher, key, agreement, needed);
        }
        if let Some(latency) = self.max_latency_us {
            let fits = latency.is_finite() && latency > 0.0;
            problems.require(
                fits,
                "publish.gate.max_latency_us",
                latency,
                "must be above 0",
            );
        }
        if let Some(baseline) = &self.baseline {
            let named = !baseline.as_os_str().is_empty();
            let allowed = "must name the folder of a finished run";
            problems.require(named, "publish.gate.baseline", "\"\"", allowed);
        }
        if let (Some(gain), None) = (self.min_gain, &self.baseline) {
            let needed = "needs publish.gate.baseline";
            problems.require(false, "publish.gate.min_gain", gain, needed);
        }
        let bounds = [self.min_accuracy, self.min_agreement, self.max_latency_us];
        let is_empty = bounds.iter().all(Option::is_none) && self.baseline.is_none();
        // A gain without a baseline has its own message.
        if is_empty && self.min_gain.is_none() {
            let needed = "needs min_accuracy, min_agreement, max_latency_us or baseline";
            problems.add("publish.gate", "{}", needed);
        }
    }
}
