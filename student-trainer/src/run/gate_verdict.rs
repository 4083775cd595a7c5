//! What `[publish.gate]` found, as the run's manifest records it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Shares are fractions of whole samples, whose difference may be rounded.
const ROUNDING: f64 = 1e-9;

/// The bounds of `[publish.gate]`, and what was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GateVerdict(Vec<GateCheck>);

/// One bound, and what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateCheck {
    /// Key of the bound in `[publish.gate]`.
    pub bound: Bound,
    /// The bound's value.
    pub wanted: f64,
    /// What was measured.
    pub measured: f64,
    /// Whether the model meets the bound.
    pub met: bool,
}

/// A key of `[publish.gate]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Accuracy of the exported file on the validation samples.
    MinAccuracy,
    /// That accuracy minus the baseline's.
    MinGain,
    /// Share of the validation samples for which the teacher gives the same class.
    MinAgreement,
    /// Median latency of one sample in microseconds.
    MaxLatencyUs,
}

/// A complete run whose model does not meet its bounds, and was not published.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the model was not published: {}; the run is complete in {}, and `retort models publish` takes its artifact anyway",
    verdict.refusals(),
    folder.display()
)]
pub struct Withheld {
    verdict: GateVerdict,
    folder: PathBuf,
}

impl GateVerdict {
    /// Adds what was measured for a bound, if the bound is configured.
    pub(super) fn check(&mut self, bound: Bound, wanted: Option<f64>, measured: f64) {
        let check = wanted.map(|wanted| GateCheck::of(bound, wanted, measured));
        self.0.extend(check);
    }

    /// Whether the model meets all bounds.
    pub fn is_met(&self) -> bool {
        self.0.iter().all(|check| check.met)
    }

    /// The bounds that the model does not meet.
    fn refusals(&self) -> String {
        let missed = self.0.iter().filter(|check| !check.met);
        missed
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

impl GateCheck {
    fn of(bound: Bound, wanted: f64, measured: f64) -> Self {
        let met = match bound {
            Bound::MinAccuracy | Bound::MinGain | Bound::MinAgreement => {
                measured >= wanted - ROUNDING
            }
            Bound::MaxLatencyUs => measured <= wanted,
        };
        Self {
            bound,
            wanted,
            measured,
            met,
        }
    }
}

impl Withheld {
    /// The run in `folder`, if `verdict` withholds its model.
    pub(super) fn of(verdict: Option<&GateVerdict>, folder: &Path) -> Option<Self> {
        let verdict = verdict.filter(|verdict| !verdict.is_met())?;
        Some(Self {
            verdict: verdict.clone(),
            folder: folder.to_owned(),
        })
    }

    /// The same run, which is in `folder` or at this URL.
    pub fn at(self, folder: PathBuf) -> Self {
        Self { folder, ..self }
    }
}

impl fmt::Display for GateVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&checks.join("; "))
    }
}

impl fmt::Display for GateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, digits, unit, key, missed) = match self.bound {
            Bound::MinAccuracy => ("validation accuracy", 6, "", "min_accuracy", "is below"),
            Bound::MinGain => ("gain over the baseline", 6, "", "min_gain", "is below"),
            Bound::MinAgreement => (
                "agreement with the teacher",
                6,
                "",
                "min_agreement",
                "is below",
            ),
            Bound::MaxLatencyUs => ("latency", 1, " µs", "max_latency_us", "is above"),
        };
        let relation = if self.met { "meets" } else { missed };
        let measured = rounded(self.measured, digits);
        let wanted = self.wanted;
        write!(
            f,
            "{what} {measured}{unit} {relation} publish.gate.{key} = {wanted}"
        )
    }
}

/// Without more digits than needed: 0.5, not 0.500000.
fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_met_at_its_value_and_missed_beyond_it() {
        for (bound, wanted, measured, met) in [
            (Bound::MinAccuracy, 0.9, 0.9, true),
            (Bound::MinAccuracy, 0.9, 0.899_99, false),
            // 0.29 - 0.28 is 0.009999999999999953.
            (Bound::MinGain, 0.01, 0.29 - 0.28, true),
            (Bound::MinGain, 0.0, -0.001, false),
            (Bound::MinAgreement, 1.0, 0.99, false),
            (Bound::MaxLatencyUs, 300.0, 300.0, true),
            (Bound::MaxLatencyUs, 300.0, 300.1, false),
            (Bound::MinAccuracy, 0.0, f64::NAN, false),
        ] {
            let mut verdict = GateVerdict::default();
            verdict.check(bound, Some(wanted), measured);
            assert_eq!(verdict.is_met(), met, "{verdict}");
            let mut unbounded = GateVerdict::default();
            unbounded.check(bound, None, measured);
            assert_eq!(unbounded, GateVerdict::default());
        }
    }

    #[test]
    fn a_withheld_run_names_each_missed_bound_with_both_values() {
        let mut verdict = GateVerdict::default();
        verdict.check(Bound::MinAccuracy, Some(0.5), 0.75);
        let folder = Path::new("runs/student");
        assert_eq!(Withheld::of(Some(&verdict), folder), None);
        assert_eq!(Withheld::of(None, folder), None);
        assert_eq!(
            verdict.to_string(),
            "validation accuracy 0.75 meets publish.gate.min_accuracy = 0.5"
        );
        verdict.check(Bound::MinGain, Some(0.005), 1.0 / 3.0 - 0.332);
        verdict.check(Bound::MaxLatencyUs, Some(300.0), 312.26);
        let text = Withheld::of(Some(&verdict), folder).unwrap().to_string();
        for part in [
            "not published: gain over the baseline 0.001333 is below publish.gate.min_gain = 0.005; latency 312.3 µs \
             is above publish.gate.max_latency_us = 300; ",
            "complete in runs/student, and `retort models publish`",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
