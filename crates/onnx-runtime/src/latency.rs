//! How long a model takes for one sample on one thread.

use std::time::{Duration, Instant};

use crate::session::{Session, SessionError, SessionOptions};

/// Runs before the first series, after which memory is allocated and caches are warm.
const WARM_UP: usize = 10;
/// Series whose medians are compared.
const SERIES: usize = 5;
/// Least runs and least time of a series.
const RUNS: usize = 10;
const SERIES_TIME: Duration = Duration::from_millis(20);

/// The latency of one sample on this machine, one at a time on one thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Median of the series' medians, microseconds.
    pub median: f64,
    /// The smallest median of a series, microseconds.
    pub least: f64,
    /// The largest median of a series, microseconds.
    pub most: f64,
}

impl Latency {
    /// Measures the model in `onnx`: the medians of five series. The values of the sample are made up; they do not
    /// change the time.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn measure(onnx: &[u8]) -> Result<Self, SessionError> {
        let mut session = Session::load(onnx, SessionOptions { threads: 1 })?;
        let values = session.interface().sample_values();
        let sample: Vec<f32> = (0..values).map(|at| (at % 255) as f32 / 255.0).collect();
        for _ in 0..WARM_UP {
            session.run(&sample, 1)?;
        }
        let mut medians = [0.0; SERIES];
        for median in &mut medians {
            *median = series(&mut session, &sample)?;
        }
        medians.sort_by(f64::total_cmp);
        Ok(Self {
            median: medians[SERIES / 2],
            least: medians[0],
            most: medians[SERIES - 1],
        })
    }
}

/// The median time of a series of runs, microseconds.
fn series(session: &mut Session, sample: &[f32]) -> Result<f64, SessionError> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < RUNS || begun.elapsed() < SERIES_TIME {
        let begun = Instant::now();
        session.run(sample, 1)?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}
