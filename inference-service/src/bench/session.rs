//! ONNX Runtime's own speed: one session, called in a loop, no service around it.

use std::time::{Duration, Instant};

use onnx_runtime::{Interrupt, Session, SessionError, SessionOptions};
use serde::Serialize;

use crate::publisher::warm_up;

/// Runs before the first that counts.
const WARM_UP_RUNS: usize = 5;
/// Runs of a batch size, after its first, whose median the first is compared with.
const LATER_RUNS: usize = 5;

/// Speed of a session with one batch size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchSpeed {
    /// Samples a run.
    pub batch: usize,
    /// Samples computed in a second.
    pub samples_per_second: f64,
    /// Median time of a run, microseconds.
    pub p50_us: f64,
}

/// Loads `onnx` and runs it with each of `batch_sizes` for `time`.
///
/// # Errors
/// When ONNX Runtime cannot load or run the model.
pub fn measure(
    onnx: &[u8],
    threads: usize,
    batch_sizes: &[usize],
    time: Duration,
) -> Result<Vec<BatchSpeed>, SessionError> {
    let mut session = Session::load(onnx, SessionOptions { threads })?;
    let measured = batch_sizes
        .iter()
        .map(|batch| measure_batch(&mut session, *batch, time));
    measured.collect()
}

/// Loads `onnx`, warms it up as the service does, and runs every batch size from 1 to
/// `largest_batch`: the time of all first runs over that of all median later ones.
///
/// # Errors
/// When ONNX Runtime cannot load or run the model.
pub fn first_run_ratio(
    onnx: &[u8],
    threads: usize,
    largest_batch: usize,
) -> Result<f64, SessionError> {
    let mut session = Session::load(onnx, SessionOptions { threads })?;
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
    Ok(first.as_secs_f64() / later.as_secs_f64())
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
