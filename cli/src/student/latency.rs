//! Measures how long ONNX Runtime takes for one sample on one thread.

use std::time::{Duration, Instant};

use networks::{NetworkSpec, Shape, Weights, WeightsError, onnx};
use onnx_runtime::{Session, SessionError, SessionOptions};

use crate::CliError;

/// Runs before the first series, after which memory is allocated and caches are warm.
const WARM_UP: usize = 10;
/// Series whose medians are compared.
const SERIES: usize = 5;
/// Least runs and least time of a series.
const RUNS: usize = 10;
const SERIES_TIME: Duration = Duration::from_millis(20);
/// Seed of the weights, which do not change the time.
const SEED: u64 = 1;

/// A network's file and its speed on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Size of the ONNX file.
    pub bytes: usize,
    /// Median of the series' medians, microseconds.
    pub median: f64,
    /// The smallest median of a series, microseconds.
    pub least: f64,
    /// The largest median of a series, microseconds.
    pub most: f64,
}

/// Exports the network with random weights and measures it.
pub(super) fn measure(spec: &NetworkSpec) -> Result<Measured, CliError> {
    let spec = as_images(spec);
    let invalid = |error: WeightsError| CliError::Usage(format!("the network: {error}"));
    let weights = Weights::initial(&spec, SEED).map_err(|error| invalid(error.into()))?;
    let model = onnx::export(&spec, &weights).map_err(invalid)?;
    drop(weights);
    let medians = medians(&model, spec.input.elements())?;
    Ok(Measured {
        bytes: model.len(),
        median: medians[SERIES / 2],
        least: medians[0],
        most: medians[SERIES - 1],
    })
}

/// Sessions take images: a row becomes an image of one pixel, which a fully connected network flattens.
fn as_images(spec: &NetworkSpec) -> NetworkSpec {
    let mut spec = spec.clone();
    if let Shape::Vector { features } = spec.input {
        spec.input = [features, 1, 1].into();
    }
    spec
}

/// The medians of all series in ascending order, microseconds.
fn medians(model: &[u8], values: usize) -> Result<[f64; SERIES], SessionError> {
    let mut session = Session::load(model, SessionOptions { threads: 1 })?;
    let sample: Vec<f32> = (0..values).map(|at| (at % 255) as f32 / 255.0).collect();
    for _ in 0..WARM_UP {
        session.run(&sample, 1)?;
    }
    let mut medians = [0.0; SERIES];
    for series in &mut medians {
        let begun = Instant::now();
        let mut times = Vec::new();
        while times.len() < RUNS || begun.elapsed() < SERIES_TIME {
            let begun = Instant::now();
            session.run(&sample, 1)?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        *series = times[times.len() / 2].as_secs_f64() * 1e6;
    }
    medians.sort_by(f64::total_cmp);
    Ok(medians)
}
