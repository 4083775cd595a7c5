//! The figures, as a table or as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{comparison::BatchSpeed, footprint::Footprint, load::Measured};
use crate::bench::series::{Series, series};

/// Everything that was measured at one turn.
pub(super) struct Turn {
    pub session: Vec<BatchSpeed>,
    pub echo: Measured,
    pub one_caller: Measured,
    pub eight_callers: Measured,
    pub many_callers: Measured,
}

/// Latency and throughput over all turns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Speed {
    /// Calls a second.
    pub throughput: Series,
    pub p50_us: Series,
    pub p99_us: Series,
    pub p999_us: Series,
}

/// A closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct WithCallers {
    pub callers: usize,
    #[serde(flatten)]
    pub speed: Speed,
}

/// An open loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct AtRate {
    /// Calls a second.
    pub rate: f64,
    #[serde(flatten)]
    pub speed: Speed,
}

/// How fast a server answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Answers {
    pub url: String,
    pub model: String,
    pub callers: Vec<WithCallers>,
    pub open_loop: Option<AtRate>,
}

/// The service with one network, beside ONNX Runtime and a bare gRPC server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Comparison {
    #[serde(skip)]
    pub network: &'static str,
    /// Calls/s of 64 callers over ONNX Runtime's best samples/s.
    pub throughput_ratio: Series,
    /// Median latency of one caller over that of ONNX Runtime and of the bare server together.
    pub p50_overhead_ratio: Series,
    /// In an open loop at half of the throughput.
    pub half_load_p99_over_p50: Series,
    /// What a call of 64 callers takes beyond ONNX Runtime's best time for a sample.
    pub call_cost_us: Series,
    /// Batch size at which ONNX Runtime is fastest, in the last turn.
    pub session_best_batch: usize,
    pub session_best_samples_per_second: Series,
    /// Samples/s by batch size.
    pub session_samples_per_second: BTreeMap<usize, Series>,
    pub session_one_sample_p50_us: Series,
    pub echo_p50_us: Series,
    pub service: [WithCallers; 3],
    pub half_load: AtRate,
}

/// All figures of `retort bench serve` without a server's address. The ratios beside the networks
/// are the medians of the first network.
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
        Self { callers, speed }
    }
}

impl AtRate {
    pub(super) fn new(rate: f64, turns: &[Measured]) -> Self {
        let speed = Speed::of(turns);
        Self { rate, speed }
    }
}

impl Turn {
    fn best(&self) -> BatchSpeed {
        let faster = |a: &&BatchSpeed, b: &&BatchSpeed| {
            a.samples_per_second.total_cmp(&b.samples_per_second)
        };
        // Holds: `inference-service bench session` measures seven batch sizes.
        *self.session.iter().max_by(faster).expect("a batch size")
    }

    fn one_sample_p50_us(&self) -> f64 {
        let single = self.session.iter().find(|speed| speed.batch == 1);
        // Holds: one of the seven is 1.
        single.expect("batch size 1").p50_us
    }
}

impl Comparison {
    pub(super) fn new(
        network: &'static str,
        turns: &[Turn],
        rate: f64,
        half_load: &[Measured],
    ) -> Self {
        let loop_of = |callers, part: fn(&Turn) -> Measured| {
            let measured: Vec<_> = turns.iter().map(part).collect();
            WithCallers::new(callers, &measured)
        };
        let batches = turns.iter().flat_map(|turn| &turn.session);
        let mut by_batch: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for speed in batches {
            by_batch
                .entry(speed.batch)
                .or_default()
                .push(speed.samples_per_second);
        }
        Self {
            network,
            throughput_ratio: series(turns, |turn| {
                turn.many_callers.throughput / turn.best().samples_per_second
            }),
            p50_overhead_ratio: series(turns, |turn| {
                turn.one_caller.p50_us / (turn.one_sample_p50_us() + turn.echo.p50_us)
            }),
            half_load_p99_over_p50: series(half_load, |turn| turn.p99_us / turn.p50_us),
            call_cost_us: series(turns, |turn| {
                1e6 / turn.many_callers.throughput - 1e6 / turn.best().samples_per_second
            }),
            session_best_batch: turns.last().map_or(0, |turn| turn.best().batch),
            session_best_samples_per_second: series(turns, |turn| turn.best().samples_per_second),
            session_samples_per_second: by_batch
                .into_iter()
                .map(|(batch, speeds)| (batch, series(&speeds, |speed| *speed)))
                .collect(),
            session_one_sample_p50_us: series(turns, Turn::one_sample_p50_us),
            echo_p50_us: series(turns, |turn| turn.echo.p50_us),
            service: [
                loop_of(1, |turn| turn.one_caller),
                loop_of(8, |turn| turn.eight_callers),
                loop_of(64, |turn| turn.many_callers),
            ],
            half_load: AtRate::new(rate, half_load),
        }
    }
}

impl Figures {
    pub(super) fn new(comparisons: Vec<Comparison>, footprint: Option<Footprint>) -> Self {
        // Holds: there is no way to ask for no network.
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
        write_speeds(f, &self.callers, self.open_loop.as_ref())
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
                "  cost of a call          {:.1} µs",
                comparison.call_cost_us
            )?;
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
    for WithCallers { callers, speed } in callers {
        writeln!(f, "  {callers:>2} callers: {}", OneLine(speed))?;
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
