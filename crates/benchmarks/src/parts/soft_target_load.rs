//! The load of the parts that request soft targets.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use tokio::runtime::{Builder, Runtime};

use crate::measurement::{Measurement, Stopwatch};

/// The batches and the duration of a load.
#[derive(Debug, Args)]
pub(super) struct Load {
    /// Duration of the measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Time before the measurement.
    #[arg(long, default_value_t = 0.3)]
    warm_up_seconds: f64,
    /// Samples per batch.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Shape of one sample: channels, height and width.
    #[arg(long, value_delimiter = ',', num_args = 3, default_values_t = [1, 28, 28])]
    shape: Vec<usize>,
    /// Batches in flight.
    #[arg(long, default_value_t = 16)]
    pub ahead: usize,
}

/// A runtime with the network threads of a trainer.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .context("cannot start the network threads")
}

impl Load {
    /// The shape of a batch.
    pub(super) fn shape(&self) -> [usize; 4] {
        let mut shape = [self.batch_size; 4];
        shape[1..].copy_from_slice(&self.shape);
        shape
    }

    /// The pixels of a batch.
    pub(super) fn pixels(&self) -> Bytes {
        vec![0; self.shape().iter().product()].into()
    }

    /// A counter that starts its warm-up now.
    pub(super) fn counter(&self) -> Counter {
        Counter {
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            measured: Duration::from_secs_f64(self.seconds),
            started: Instant::now(),
            watch: None,
            samples: 0,
        }
    }
}

/// Counts the samples that arrive after a warm-up.
pub(super) struct Counter {
    warm_up: Duration,
    measured: Duration,
    started: Instant,
    /// `None` during the warm-up.
    watch: Option<Stopwatch>,
    samples: u64,
}

impl Counter {
    /// Counts `samples` that have just arrived. Returns the measurement once its time has passed.
    pub(super) fn count(&mut self, samples: usize) -> Option<Measurement> {
        let elapsed = self.started.elapsed();
        if self.watch.is_none() {
            if elapsed >= self.warm_up {
                self.watch = Some(Stopwatch::start());
            }
            return None;
        }
        self.samples += samples as u64;
        if elapsed < self.warm_up + self.measured {
            return None;
        }
        self.watch.take().map(|watch| watch.stop(self.samples))
    }
}
