//! The figures as a table or as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::bytes::BytesPerSample;
use crate::{
    measurement::Measurement,
    series::{Series, series},
    streaming::{BATCH_MILLISECONDS, BATCH_SIZE},
};

/// The measurements of one turn.
pub(super) struct Round {
    /// Results by number of teachers.
    pub scaling: BTreeMap<usize, Measurement>,
    pub stream: Measurement,
    pub echo: Measurement,
}

/// All figures of `retort-bench stream`. Ratios are medians.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Share of linear scaling by number of simulated teachers.
    scaling: BTreeMap<usize, f64>,
    transport_ratio: f64,
    bytes_per_sample: BytesPerSample,
    /// The rate of the trainer's pool with one teacher that answers at once.
    limit_samples_per_second: f64,
    turns: usize,
    details: Details,
}

/// Every figure with its minimum and maximum.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Details {
    scaling: BTreeMap<usize, Scaling>,
    transport_ratio: Series,
    stream_samples_per_second: Series,
    echo_samples_per_second: Series,
    /// Processor time of the trainer's process, microseconds per sample.
    stream_cpu_us: Series,
    echo_cpu_us: Series,
}

/// Results with a number of simulated teachers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Scaling {
    share_of_linear: Series,
    samples_per_second: Series,
}

impl Figures {
    pub(super) fn of(rounds: &[Round]) -> Self {
        let numbers = rounds.first().map(|round| round.scaling.keys().copied());
        let scaling: BTreeMap<_, _> = numbers
            .into_iter()
            .flatten()
            .map(|teachers| (teachers, Scaling::of(rounds, teachers)))
            .collect();
        let details = Details {
            transport_ratio: series(rounds, |round| {
                round.stream.samples_per_second() / round.echo.samples_per_second()
            }),
            stream_samples_per_second: series(rounds, |round| round.stream.samples_per_second()),
            echo_samples_per_second: series(rounds, |round| round.echo.samples_per_second()),
            stream_cpu_us: series(rounds, |round| 1e6 * round.stream.cpu_seconds_per_sample()),
            echo_cpu_us: series(rounds, |round| 1e6 * round.echo.cpu_seconds_per_sample()),
            scaling,
        };
        Self {
            scaling: details
                .scaling
                .iter()
                .map(|(teachers, scaling)| (*teachers, scaling.share_of_linear.median))
                .collect(),
            transport_ratio: details.transport_ratio.median,
            bytes_per_sample: BytesPerSample::measure(),
            limit_samples_per_second: details.stream_samples_per_second.median,
            turns: rounds.len(),
            details,
        }
    }
}

impl Scaling {
    fn of(rounds: &[Round], teachers: usize) -> Self {
        let each = BATCH_SIZE as f64 / (BATCH_MILLISECONDS as f64 / 1e3);
        let samples_per_second = series(rounds, |round| {
            round.scaling[&teachers].samples_per_second()
        });
        let share_of_linear = series(rounds, |round| {
            round.scaling[&teachers].samples_per_second() / (teachers as f64 * each)
        });
        Self {
            share_of_linear,
            samples_per_second,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &self.details;
        writeln!(f, "{} turns: median (minimum to maximum)", self.turns)?;
        writeln!(f, "scaling with simulated teachers, share of linear")?;
        for (teachers, scaling) in &details.scaling {
            writeln!(
                f,
                "  {teachers:>3} teachers: {:.3}; {:.0} samples/s",
                scaling.share_of_linear, scaling.samples_per_second
            )?;
        }
        writeln!(
            f,
            "  the trainer's own limit: {:.0} samples/s",
            details.stream_samples_per_second
        )?;
        writeln!(f, "transport_ratio  {:.3}", details.transport_ratio)?;
        for (what, speed, cpu) in [
            (
                "soft targets",
                details.stream_samples_per_second,
                details.stream_cpu_us,
            ),
            (
                "bare tonic",
                details.echo_samples_per_second,
                details.echo_cpu_us,
            ),
        ] {
            writeln!(
                f,
                "  {what:<12}  {speed:.0} samples/s, {cpu:.3} µs of the trainer's time a sample"
            )?;
        }
        write!(f, "{}", self.bytes_per_sample)
    }
}
