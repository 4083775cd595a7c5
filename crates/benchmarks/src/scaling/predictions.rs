//! Part `predictions`: the processor time of a million predictions of the demo's student.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ScalingArguments;
use crate::{network::Network, process::Program};

/// The inference service on one core with the demo's student, one sample per call, by number of callers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PredictionFigures {
    callers: BTreeMap<usize, Predictions>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Predictions {
    calls_per_second: f64,
    /// Processor time of the service for a million calls, seconds.
    processor_seconds_per_million: f64,
    /// The same in hours: the number by which to multiply the price of an hour of one core.
    core_hours_per_million: f64,
}

/// Measures with `retort-bench serve`.
///
/// # Errors
/// If that fails.
pub(super) async fn measure(arguments: &ScalingArguments) -> Result<PredictionFigures> {
    let network = Network::DemoStudent.name();
    let program = Program::part("serve")?
        .args(["--json", "--networks", network])
        .args(["--turns", &arguments.turns.to_string()])
        .args(["--seconds", &arguments.seconds.to_string()]);
    let figures: Value = program.figures().await?;
    PredictionFigures::read(&figures, network)
}

impl PredictionFigures {
    /// Takes the figures of `network` from those of `retort-bench serve`.
    fn read(figures: &Value, network: &str) -> Result<Self> {
        let loads = figures.pointer(&format!("/networks/{network}/service"));
        let loads = loads.and_then(Value::as_array);
        let loads = loads.context("`retort-bench serve` printed no loads of the service")?;
        let read = |load: &Value| {
            let number = |key: &str| load.pointer(key).and_then(Value::as_f64);
            let callers = load.get("callers").and_then(Value::as_u64);
            let predictions =
                Predictions::of(number("/throughput/median")?, number("/cpu_us/median")?);
            Some((callers? as usize, predictions))
        };
        let callers: Option<BTreeMap<_, _>> = loads.iter().map(read).collect();
        let callers = callers.context("a load of `retort-bench serve` has no processor time")?;
        Ok(Self { callers })
    }
}

impl Predictions {
    /// With `cpu_us` microseconds of processor time per call, which are as many seconds per million calls.
    fn of(calls_per_second: f64, cpu_us: f64) -> Self {
        Self {
            calls_per_second,
            processor_seconds_per_million: cpu_us,
            core_hours_per_million: cpu_us / 3_600.0,
        }
    }
}

impl fmt::Display for PredictionFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "a million predictions of the demo's student, on one core"
        )?;
        for (callers, predictions) in &self.callers {
            writeln!(
                f,
                "  {callers:>3} callers: {:.1} s of processor time, {:.4} core-hours; {:.0} calls/s",
                predictions.processor_seconds_per_million,
                predictions.core_hours_per_million,
                predictions.calls_per_second
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn microseconds_of_a_call_are_seconds_of_a_million() {
        let figures = |cpu_us: Value| {
            let throughput = json!({ "median": 20_000.0 });
            let load = json!({ "callers": 64, "throughput": throughput, "cpu_us": cpu_us });
            json!({ "networks": { "n": { "service": [load] } } })
        };
        let read = PredictionFigures::read(&figures(json!({ "median": 36.0 })), "n").unwrap();
        let expected = Predictions {
            calls_per_second: 20_000.0,
            processor_seconds_per_million: 36.0,
            // 36 s of 3,600 s.
            core_hours_per_million: 0.01,
        };
        assert_eq!(read.callers, BTreeMap::from([(64, expected)]));
        assert!(PredictionFigures::read(&figures(Value::Null), "n").is_err());
        assert!(PredictionFigures::read(&figures(Value::Null), "other").is_err());
    }
}
