//! The rule that decides a trial.

use std::{fmt, time::Duration};

use super::latencies::Latencies;
use crate::config::CanaryConfig;

/// What was observed of the two versions of a trial.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(super) active: Latencies,
    pub(super) canary: Latencies,
    /// Requests that the canary failed to compute.
    pub(super) failures: u64,
    /// Samples whose classes were compared.
    pub(super) compared: u64,
    /// Compared samples for which the canary agreed.
    pub(super) agreeing: u64,
    /// Why the newest request was not compared.
    pub(super) not_compared: Option<String>,
}

/// The end of a trial.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// The canary becomes the active version.
    Promote(Reason),
    /// The canary no longer answers requests that do not name it.
    RollBack(Reason),
}

/// Why a trial ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    Passed { latency_ratio: f64, agreement: f64 },
    Failures { failures: u64 },
    Slow { latency_ratio: f64, allowed: f64 },
    Disagrees { agreement: f64, required: f64 },
    Undecided { seconds: u64, missing: String },
}

/// Decides the trial of a canary after `elapsed`; `None` while more requests are needed.
///
/// One request that the canary fails to compute is enough for a roll-back. Latency and agreement are checked as soon
/// as there are `min_requests` of each.
pub(super) fn judge(
    rule: &CanaryConfig,
    observed: &Observed,
    elapsed: Duration,
) -> Option<Verdict> {
    if observed.failures > 0 {
        let failures = observed.failures;
        return Some(Verdict::RollBack(Reason::Failures { failures }));
    }
    let needed = rule.min_requests;
    let answered = observed.canary.count().min(observed.active.count());
    let latency_ratio = (answered >= needed).then(|| latency_ratio(observed));
    if let Some(latency_ratio) = latency_ratio
        && latency_ratio > rule.max_latency_ratio
    {
        let allowed = rule.max_latency_ratio;
        return Some(Verdict::RollBack(Reason::Slow {
            latency_ratio,
            allowed,
        }));
    }
    let agreement = observed.agreeing as f64 / observed.compared.max(1) as f64;
    let agreement = (observed.compared >= needed).then_some(agreement);
    if let Some(agreement) = agreement
        && agreement < rule.min_agreement
    {
        let required = rule.min_agreement;
        return Some(Verdict::RollBack(Reason::Disagrees {
            agreement,
            required,
        }));
    }
    if let (Some(latency_ratio), Some(agreement)) = (latency_ratio, agreement) {
        return Some(Verdict::Promote(Reason::Passed {
            latency_ratio,
            agreement,
        }));
    }
    (elapsed >= rule.decide_within()).then(|| {
        Verdict::RollBack(Reason::Undecided {
            seconds: rule.decide_within_seconds,
            missing: missing(needed, observed),
        })
    })
}

/// The canary's median latency divided by that of the active version.
fn latency_ratio(observed: &Observed) -> f64 {
    let nanoseconds = |latencies: &Latencies| {
        let median = latencies.median().unwrap_or_default();
        // The clock may be too coarse for a tiny model.
        median.max(Duration::from_micros(1)).as_nanos() as f64
    };
    nanoseconds(&observed.canary) / nanoseconds(&observed.active)
}

fn missing(needed: u64, observed: &Observed) -> String {
    let mut missing = Vec::new();
    for (what, count) in [
        ("requests to the canary", observed.canary.count()),
        ("requests to the active version", observed.active.count()),
        ("compared samples", observed.compared),
    ] {
        if count < needed {
            missing.push(format!("{count} of {needed} {what}"));
        }
    }
    let mut text = missing.join(", ");
    if let Some(problem) = &observed.not_compared
        && observed.compared < needed
    {
        text += &format!("; {problem}");
    }
    text
}

impl Verdict {
    /// Why the trial ends.
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Promote(reason) | Self::RollBack(reason) => reason,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed {
                latency_ratio,
                agreement,
            } => write!(
                f,
                "it passed: agreement {agreement:.4}, latency {latency_ratio:.2} times that of the active version"
            ),
            Self::Failures { failures } => write!(f, "it failed to compute {failures} requests"),
            Self::Slow {
                latency_ratio,
                allowed,
            } => write!(
                f,
                "its latency is {latency_ratio:.2} times that of the active version; {allowed} times is allowed"
            ),
            Self::Disagrees {
                agreement,
                required,
            } => write!(f, "its agreement is {agreement:.4}; {required} is required"),
            Self::Undecided { seconds, missing } => {
                write!(f, "no decision within {seconds} s: {missing}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InferenceConfig;

    fn rule() -> CanaryConfig {
        CanaryConfig {
            min_requests: 10,
            max_latency_ratio: 1.5,
            min_agreement: 0.9,
            decide_within_seconds: 60,
            ..InferenceConfig::shipped().canary
        }
    }

    /// Requests to each version with a latency in microseconds each; compared and agreeing samples.
    fn observed(
        (active, active_latency): (u64, u64),
        (canary, canary_latency): (u64, u64),
        (compared, agreeing): (u64, u64),
    ) -> Observed {
        let mut observed = Observed {
            compared,
            agreeing,
            ..Observed::default()
        };
        for _ in 0..active {
            let latency = Duration::from_micros(active_latency);
            observed.active.record(latency);
        }
        for _ in 0..canary {
            let latency = Duration::from_micros(canary_latency);
            observed.canary.record(latency);
        }
        observed
    }

    #[test]
    fn a_trial_is_decided_by_failures_latency_agreement_and_time() {
        for (active, canary, compared, seconds, expected) in [
            // Too few of one kind.
            ((9, 100), (10, 100), (10, 10), 59, "waits"),
            ((10, 100), (9, 100), (10, 10), 59, "waits"),
            ((10, 100), (10, 100), (9, 9), 59, "waits"),
            // Enough, within all bounds.
            (
                (10, 100),
                (10, 150),
                (10, 9),
                0,
                "it passed: agreement 0.9000, latency 1.50",
            ),
            ((999, 100), (10, 50), (10, 10), 0, "it passed"),
            // What is beyond a bound decides at once, even without the others.
            ((10, 100), (10, 151), (0, 0), 0, "latency is 1.51"),
            ((0, 0), (0, 0), (10, 8), 0, "agreement is 0.8000"),
            // The time passes.
            ((10, 100), (10, 100), (9, 9), 60, "9 of 10 compared samples"),
            (
                (3, 100),
                (1, 900),
                (1, 0),
                60,
                "1 of 10 requests to the canary",
            ),
            ((10, 100), (10, 100), (10, 10), 60, "it passed"),
        ] {
            let observed = observed(active, canary, compared);
            let verdict = judge(&rule(), &observed, Duration::from_secs(seconds));
            let said = verdict
                .as_ref()
                .map_or("waits".to_owned(), |verdict| verdict.reason().to_string());
            assert!(said.contains(expected), "{said}; expected {expected}");
            let promotes = matches!(verdict, Some(Verdict::Promote(_)));
            assert_eq!(promotes, expected.starts_with("it passed"), "{said}");
        }
    }

    #[test]
    fn one_failure_of_the_model_is_enough() {
        let mut observed = observed((10, 100), (10, 100), (10, 10));
        observed.failures = 1;
        let verdict = judge(&rule(), &observed, Duration::ZERO);
        let reason = Reason::Failures { failures: 1 };
        assert_eq!(verdict, Some(Verdict::RollBack(reason)));
    }

    #[test]
    fn an_undecided_trial_says_why_nothing_was_compared() {
        let mut observed = observed((10, 100), (10, 100), (0, 0));
        observed.not_compared = Some("the teacher is away".to_owned());
        let verdict = judge(&rule(), &observed, Duration::from_secs(60)).unwrap();
        let said = verdict.reason().to_string();
        assert!(
            said.ends_with("0 of 10 compared samples; the teacher is away"),
            "{said}"
        );
    }
}
