//! The figures as a table or as JSON.

use std::fmt;

use serde::Serialize;

use crate::{
    measurement::Measurement,
    series::{Series, series},
    trainer::Training,
};

/// The measurements of one turn.
pub(super) struct Round {
    pub supervised: Measurement,
    pub recorded: Measurement,
    pub live: Training,
    /// Trainer and teacher together, with the demo's teacher.
    pub demo_live: Training,
    /// The demo's teacher alone.
    pub demo_forward: Measurement,
    /// Training and teacher separately, but at the same time and without communication.
    pub supervised_beside: Measurement,
    pub demo_forward_beside: Measurement,
}

/// All figures of `retort-bench distill`. The ratios are medians.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    recorded_ratio: f64,
    live_ratio: f64,
    cpu_ratio: f64,
    beside_ratio: f64,
    network_share: f64,
    turns: usize,
    details: Details,
}

/// Every figure with its minimum and maximum.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Details {
    recorded_ratio: Series,
    live_ratio: Series,
    cpu_ratio: Series,
    beside_ratio: Series,
    network_share: Series,
    /// Samples per second of the student's training.
    supervised_samples_per_second: Series,
    recorded_samples_per_second: Series,
    live_samples_per_second: Series,
    /// Processor time per sample in microseconds: trainer, and teacher of negligible cost.
    supervised_cpu_us: Series,
    recorded_cpu_us: Series,
    live_cpu_us: Series,
    /// The part of that in the network threads of both.
    live_network_us: Series,
    /// Processor time with the demo's teacher, and of that teacher alone.
    demo_live_cpu_us: Series,
    demo_live_network_us: Series,
    demo_forward_cpu_us: Series,
    /// Training on hard labels and that teacher, at the same time.
    supervised_beside_cpu_us: Series,
    demo_forward_beside_cpu_us: Series,
}

impl Figures {
    pub(super) fn of(rounds: &[Round]) -> Self {
        let speed =
            |of: fn(&Round) -> Measurement| series(rounds, |round| of(round).samples_per_second());
        let cpu = |of: fn(&Round) -> Measurement| {
            series(rounds, |round| 1e6 * of(round).cpu_seconds_per_sample())
        };
        let network = |of: fn(&Round) -> Training| {
            series(rounds, |round| {
                let training = of(round);
                1e6 * training.network_seconds / training.measurement.samples as f64
            })
        };
        let details = Details {
            recorded_ratio: series(rounds, |round| {
                round.recorded.samples_per_second() / round.supervised.samples_per_second()
            }),
            live_ratio: series(rounds, |round| {
                round.live.measurement.samples_per_second() / round.supervised.samples_per_second()
            }),
            cpu_ratio: series(rounds, |round| {
                let alone = round.demo_forward.cpu_seconds_per_sample()
                    + round.supervised.cpu_seconds_per_sample();
                round.demo_live.measurement.cpu_seconds_per_sample() / alone
            }),
            beside_ratio: series(rounds, |round| {
                let beside = round.demo_forward_beside.cpu_seconds_per_sample()
                    + round.supervised_beside.cpu_seconds_per_sample();
                round.demo_live.measurement.cpu_seconds_per_sample() / beside
            }),
            network_share: series(rounds, |round| {
                round.demo_live.network_seconds / round.demo_live.measurement.cpu_seconds
            }),
            supervised_samples_per_second: speed(|round| round.supervised),
            recorded_samples_per_second: speed(|round| round.recorded),
            live_samples_per_second: speed(|round| round.live.measurement),
            supervised_cpu_us: cpu(|round| round.supervised),
            recorded_cpu_us: cpu(|round| round.recorded),
            live_cpu_us: cpu(|round| round.live.measurement),
            live_network_us: network(|round| round.live),
            demo_live_cpu_us: cpu(|round| round.demo_live.measurement),
            demo_live_network_us: network(|round| round.demo_live),
            demo_forward_cpu_us: cpu(|round| round.demo_forward),
            supervised_beside_cpu_us: cpu(|round| round.supervised_beside),
            demo_forward_beside_cpu_us: cpu(|round| round.demo_forward_beside),
        };
        Self {
            recorded_ratio: details.recorded_ratio.median,
            live_ratio: details.live_ratio.median,
            cpu_ratio: details.cpu_ratio.median,
            beside_ratio: details.beside_ratio.median,
            network_share: details.network_share.median,
            turns: rounds.len(),
            details,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &self.details;
        writeln!(f, "{} turns: median (minimum to maximum)", self.turns)?;
        writeln!(f, "  recorded_ratio  {:.3}", details.recorded_ratio)?;
        writeln!(f, "  live_ratio      {:.3}", details.live_ratio)?;
        writeln!(f, "  cpu_ratio       {:.3}", details.cpu_ratio)?;
        writeln!(f, "  beside_ratio    {:.3}", details.beside_ratio)?;
        writeln!(f, "  network_share   {:.4}", details.network_share)?;
        for (what, speed, cpu) in [
            (
                "hard labels",
                details.supervised_samples_per_second,
                details.supervised_cpu_us,
            ),
            (
                "recorded",
                details.recorded_samples_per_second,
                details.recorded_cpu_us,
            ),
            ("live", details.live_samples_per_second, details.live_cpu_us),
        ] {
            writeln!(
                f,
                "  {what:<12} {speed:.0} samples/s, {cpu:.1} µs of processor time a sample"
            )?;
        }
        writeln!(
            f,
            "  with the demo's teacher, {:.1} µs a sample; that teacher alone, {:.1} µs",
            details.demo_live_cpu_us, details.demo_forward_cpu_us
        )?;
        writeln!(
            f,
            "  the network's threads in both, {:.1} µs a sample; with that teacher, {:.1} µs",
            details.live_network_us, details.demo_live_network_us
        )?;
        writeln!(
            f,
            "  training and that teacher at the same time, {:.1} and {:.1} µs",
            details.supervised_beside_cpu_us, details.demo_forward_beside_cpu_us
        )
    }
}
