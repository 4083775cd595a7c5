//! The figures as a table or as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    breakdown::Breakdown,
    footprint::Footprint,
    load::Measured,
    round::{MANY, Round},
};
use crate::series::{Series, series};

/// Latency and throughput over all turns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Speed {
    /// Calls per second.
    pub throughput: Series,
    pub p50_us: Series,
    pub p99_us: Series,
    pub p999_us: Series,
}

/// Results of a closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct WithCallers {
    pub callers: usize,
    #[serde(flatten)]
    pub speed: Speed,
    /// Processor time of the server's process per call, if known.
    pub cpu_us: Option<Series>,
}

/// Results of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct AtRate {
    /// Calls per second.
    pub rate: f64,
    #[serde(flatten)]
    pub speed: Speed,
}

/// The speed of a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Answers {
    pub url: String,
    pub model: String,
    pub callers: Vec<WithCallers>,
    /// The speed of a bare gRPC server that answers the same calls with the same bytes.
    pub echo: Option<Vec<WithCallers>>,
    pub open_loop: Option<AtRate>,
}

/// The service with one network, compared with ONNX Runtime and a bare gRPC server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Comparison {
    #[serde(skip)]
    pub network: &'static str,
    /// Calls/s of 64 callers divided by ONNX Runtime's best samples/s.
    pub throughput_ratio: Series,
    /// Median latency of one caller divided by the sum of ONNX Runtime's and the bare server's.
    pub p50_overhead_ratio: Series,
    /// p99 divided by p50 in an open loop at half of the throughput.
    pub half_load_p99_over_p50: Series,
    /// Time per call of 64 callers beyond ONNX Runtime's best time per sample.
    pub call_cost_us: Series,
    /// The parts of the time of such a call.
    pub breakdown: Breakdown,
    /// ONNX Runtime's fastest batch size in the last turn.
    pub session_best_batch: usize,
    pub session_best_samples_per_second: Series,
    /// Samples/s by batch size.
    pub session_samples_per_second: BTreeMap<usize, Series>,
    pub session_one_sample_p50_us: Series,
    /// Time of the first runs of all batch sizes after the service's warm-up, divided by later runs.
    pub first_run_ratio: Series,
    pub echo_p50_us: Series,
    pub service: [WithCallers; 3],
    pub half_load: AtRate,
}

/// All figures of `retort-bench serve` without --url. The top-level ratios are the medians of the
/// first network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    throughput_ratio: f64,
    p50_overhead_ratio: f64,
    half_load_p99_over_p50: f64,
    networks: BTreeMap<&'static str, Comparison>,
    footprint: Option<Footprint>,
    #[serde(skip)]
    order: Vec<&'static str>,
}

impl Speed {
    fn of(turns: &[Measured]) -> Self {
        Self {
            throughput: series(turns, |turn| turn.throughput),
            p50_us: series(turns, |turn| turn.p50_us),
            p99_us: series(turns, |turn| turn.p99_us),
            p999_us: series(turns, |turn| turn.p999_us),
        }
    }
}

impl WithCallers {
    pub(super) fn new(callers: usize, turns: &[Measured]) -> Self {
        let speed = Speed::of(turns);
        let cpu_us = Series::of(turns.iter().filter_map(Measured::cpu_us));
        Self {
            callers,
            speed,
            cpu_us,
        }
    }
}

impl AtRate {
    pub(super) fn new(rate: f64, turns: &[Measured]) -> Self {
        let speed = Speed::of(turns);
        Self { rate, speed }
    }
}

impl Comparison {
    pub(super) fn new(
        network: &'static str,
        rounds: &[Round],
        rate: f64,
        half_load: &[Measured],
    ) -> Self {
        let loop_of = |callers, part: fn(&Round) -> Measured| {
            let measured: Vec<_> = rounds.iter().map(part).collect();
            WithCallers::new(callers, &measured)
        };
        let batches = rounds.iter().flat_map(|round| &round.sweep);
        let mut by_batch: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for speed in batches {
            by_batch
                .entry(speed.batch)
                .or_default()
                .push(speed.samples_per_second);
        }
        Self {
            network,
            throughput_ratio: series(rounds, |round| {
                round.many_callers.throughput / round.best_samples_per_second()
            }),
            p50_overhead_ratio: series(rounds, |round| {
                round.one_caller.p50_us / (round.one_sample_us() + round.echo_us())
            }),
            half_load_p99_over_p50: series(half_load, |load| load.p99_us / load.p50_us),
            call_cost_us: series(rounds, |round| {
                1e6 / round.many_callers.throughput - 1e6 / round.best_samples_per_second()
            }),
            breakdown: Breakdown::new(rounds),
            session_best_batch: rounds.last().map_or(0, |round| round.best[0].batch),
            session_best_samples_per_second: series(rounds, Round::best_samples_per_second),
            session_samples_per_second: by_batch
                .into_iter()
                .map(|(batch, speeds)| (batch, series(&speeds, |speed| *speed)))
                .collect(),
            session_one_sample_p50_us: series(rounds, Round::one_sample_us),
            first_run_ratio: series(rounds, |round| round.first_run_ratio),
            echo_p50_us: series(rounds, Round::echo_us),
            service: [
                loop_of(1, |round| round.one_caller),
                loop_of(8, |round| round.eight_callers),
                loop_of(MANY, |round| round.many_callers),
            ],
            half_load: AtRate::new(rate, half_load),
        }
    }
}

impl Figures {
    pub(super) fn new(comparisons: Vec<Comparison>, footprint: Option<Footprint>) -> Self {
        // Cannot fail: the command line requires at least one network.
        let first = comparisons.first().expect("a network");
        Self {
            throughput_ratio: first.throughput_ratio.median,
            p50_overhead_ratio: first.p50_overhead_ratio.median,
            half_load_p99_over_p50: first.half_load_p99_over_p50.median,
            order: comparisons
                .iter()
                .map(|comparison| comparison.network)
                .collect(),
            networks: comparisons
                .into_iter()
                .map(|comparison| (comparison.network, comparison))
                .collect(),
            footprint,
        }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} at {}: median (minimum to maximum)",
            self.model, self.url
        )?;
        write_speeds(f, &self.callers, self.open_loop.as_ref())?;
        if let Some(echo) = &self.echo {
            writeln!(f, "bare gRPC server")?;
            write_speeds(f, echo, None)?;
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for network in &self.order {
            let comparison = &self.networks[network];
            writeln!(f, "{network}: median (minimum to maximum)")?;
            writeln!(
                f,
                "  throughput_ratio        {:.3}",
                comparison.throughput_ratio
            )?;
            writeln!(
                f,
                "  p50_overhead_ratio      {:.3}",
                comparison.p50_overhead_ratio
            )?;
            writeln!(
                f,
                "  half_load_p99_over_p50  {:.2}",
                comparison.half_load_p99_over_p50
            )?;
            writeln!(
                f,
                "  first_run_ratio         {:.3}",
                comparison.first_run_ratio
            )?;
            writeln!(
                f,
                "  cost of a call          {:.1} µs",
                comparison.call_cost_us
            )?;
            write!(f, "{}", comparison.breakdown)?;
            writeln!(
                f,
                "  ONNX Runtime itself: {:.0} samples/s with batches of {}; one sample {:.0} µs",
                comparison.session_best_samples_per_second,
                comparison.session_best_batch,
                comparison.session_one_sample_p50_us
            )?;
            for (batch, speed) in &comparison.session_samples_per_second {
                writeln!(f, "    batch {batch:>2}: {speed:.0} samples/s")?;
            }
            writeln!(
                f,
                "  bare gRPC server: one caller {:.0} µs",
                comparison.echo_p50_us
            )?;
            write_speeds(f, &comparison.service, Some(&comparison.half_load))?;
        }
        if let Some(footprint) = &self.footprint {
            writeln!(f, "footprint")?;
            writeln!(f, "  ready after             {:.0} ms", footprint.ready_ms)?;
            writeln!(
                f,
                "  resident memory         {:.1} MB",
                footprint.resident_mb
            )?;
            writeln!(
                f,
                "  program + ONNX Runtime  {:.1} + {:.1} MB",
                footprint.program_mb, footprint.onnx_runtime_mb
            )?;
            writeln!(
                f,
                "  idle for 10 s           {:.2} s of processor time",
                footprint.idle_cpu_seconds
            )?;
        }
        Ok(())
    }
}

fn write_speeds(
    f: &mut fmt::Formatter<'_>,
    callers: &[WithCallers],
    open_loop: Option<&AtRate>,
) -> fmt::Result {
    for each in callers {
        write!(f, "  {:>2} callers: {}", each.callers, OneLine(&each.speed))?;
        match each.cpu_us {
            Some(cpu_us) => writeln!(f, ", processor time {cpu_us:.1} µs")?,
            None => writeln!(f)?,
        }
    }
    if let Some(AtRate { rate, speed }) = open_loop {
        writeln!(f, "  open loop at {rate:.0} calls/s: {}", OneLine(speed))?;
    }
    Ok(())
}

struct OneLine<'s>(&'s Speed);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Speed {
            throughput,
            p50_us,
            p99_us,
            p999_us,
        } = self.0;
        write!(
            f,
            "{throughput:.0} calls/s, p50 {p50_us:.0} µs, p99 {p99_us:.0} µs, p99.9 {p999_us:.0} µs"
        )
    }
}
