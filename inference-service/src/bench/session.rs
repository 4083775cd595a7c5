//! ONNX Runtime's own speed: one session, called in a loop, no service around it.

use std::time::{Duration, Instant};

use onnx_runtime::{Session, SessionError, SessionOptions};
use serde::Serialize;

/// Runs before the first that counts.
const WARM_UP_RUNS: usize = 5;

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

fn measure_batch(
    session: &mut Session,
    batch: usize,
    time: Duration,
) -> Result<BatchSpeed, SessionError> {
    let values = session.interface().sample_values() * batch;
    let input: Vec<f32> = (0..values).map(|i| (i % 255) as f32 / 255.0).collect();
    for _ in 0..WARM_UP_RUNS {
        session.run(&input, batch)?;
    }
    let mut runs = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time {
        let run = Instant::now();
        session.run(&input, batch)?;
        runs.push(run.elapsed());
    }
    let elapsed = started.elapsed().as_secs_f64();
    runs.sort_unstable();
    let p50 = runs.get(runs.len() / 2).copied().unwrap_or_default();
    Ok(BatchSpeed {
        batch,
        samples_per_second: (runs.len() * batch) as f64 / elapsed,
        p50_us: p50.as_secs_f64() * 1e6,
    })
}
