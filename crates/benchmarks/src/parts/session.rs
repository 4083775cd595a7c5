//! ONNX Runtime's own speed: one session, called in a loop, without a service.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use common::output::Results;
use inference_service::warm_up;
use onnx_runtime::{Interrupt, Session, SessionError, SessionOptions};
use serde::{Deserialize, Serialize};

/// Runs before the first measured run.
const WARM_UP_RUNS: usize = 5;
/// Runs of a batch size after its first run, whose median is compared with the first.
const LATER_RUNS: usize = 5;

/// Run an ONNX file in this process, without a service, and print its speed as JSON.
#[derive(Debug, Args)]
pub(crate) struct SessionArguments {
    /// The ONNX file.
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// Threads that share the work of a run.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Measured batch sizes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    batch_sizes: Vec<usize>,
    /// Duration per batch size, milliseconds.
    #[arg(long, default_value_t = 300)]
    milliseconds: u64,
}

/// Warm an ONNX file up as the service does, run every batch size, and print the time of all first
/// runs divided by that of later runs.
#[derive(Debug, Args)]
pub(crate) struct FirstRunsArguments {
    /// The ONNX file.
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// Threads that share the work of a run.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Largest batch size; the smallest is 1.
    #[arg(long, default_value_t = 64)]
    largest_batch: usize,
}

/// Speed of a session with one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct BatchSpeed {
    /// Samples per run.
    pub batch: usize,
    pub samples_per_second: f64,
    /// Median time of a run, microseconds.
    pub p50_us: f64,
}

/// Measures each batch size.
pub(super) fn measure(arguments: &SessionArguments) -> anyhow::Result<()> {
    let mut session = load(&arguments.onnx, arguments.threads)?;
    let time = Duration::from_millis(arguments.milliseconds);
    let batch_sizes = arguments.batch_sizes.iter();
    let speeds = batch_sizes.map(|batch| measure_batch(&mut session, *batch, time));
    let speeds: Vec<_> = speeds.collect::<Result<_, _>>()?;
    writeln!(Results, "{}", serde_json::to_string(&speeds)?)?;
    Ok(())
}

/// Compares first runs with later ones.
pub(super) fn measure_first_runs(arguments: &FirstRunsArguments) -> anyhow::Result<()> {
    let mut session = load(&arguments.onnx, arguments.threads)?;
    let largest_batch = arguments.largest_batch.max(1);
    warm_up(&mut session, largest_batch, &Interrupt::new()?)?;
    let mut first = Duration::ZERO;
    let mut later = Duration::ZERO;
    for batch in 1..=largest_batch {
        let input = input_of(&session, batch);
        first += time_of_run(&mut session, &input, batch)?;
        let mut runs = Vec::new();
        for _ in 0..LATER_RUNS {
            runs.push(time_of_run(&mut session, &input, batch)?);
        }
        later += median(runs);
    }
    writeln!(Results, "{}", first.as_secs_f64() / later.as_secs_f64())?;
    Ok(())
}

fn load(onnx: &Path, threads: usize) -> anyhow::Result<Session> {
    let bytes = fs::read(onnx).with_context(|| onnx.display().to_string())?;
    let threads = threads.max(1);
    Ok(Session::load(&bytes, SessionOptions { threads })?)
}

fn measure_batch(
    session: &mut Session,
    batch: usize,
    time: Duration,
) -> Result<BatchSpeed, SessionError> {
    let input = input_of(session, batch);
    for _ in 0..WARM_UP_RUNS {
        session.run(&input, batch)?;
    }
    let mut runs = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time {
        runs.push(time_of_run(session, &input, batch)?);
    }
    let elapsed = started.elapsed().as_secs_f64();
    Ok(BatchSpeed {
        batch,
        samples_per_second: (runs.len() * batch) as f64 / elapsed,
        p50_us: median(runs).as_secs_f64() * 1e6,
    })
}

fn input_of(session: &Session, batch: usize) -> Vec<f32> {
    let values = session.interface().sample_values() * batch;
    (0..values).map(|i| (i % 255) as f32 / 255.0).collect()
}

fn time_of_run(
    session: &mut Session,
    input: &[f32],
    batch: usize,
) -> Result<Duration, SessionError> {
    let begun = Instant::now();
    session.run(input, batch)?;
    Ok(begun.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
