//! `student-trainer bench`: the trainer's side of `retort bench`.

mod echo;
mod stream;

use common::output::Results;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use common::turn::{Stopwatch, Turn};
use tokio::runtime::Handle;

/// Parts of benchmarks; `retort bench` starts them and reads what they print.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  student-trainer bench stream 127.0.0.1:50051 127.0.0.1:50052 --ahead 8
  student-trainer bench echo 127.0.0.1:50051")]
pub struct BenchArguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Ask teachers for soft targets as a run does, only count them, and print how many there were
    /// as JSON.
    Stream(stream::StreamArguments),
    /// The same bytes over a bare tonic stream, from `teacher-service bench echo`.
    Echo(echo::EchoArguments),
}

/// What is sent and for how long.
#[derive(Debug, Args)]
struct Load {
    /// Time measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Time before that.
    #[arg(long, default_value_t = 0.3)]
    warm_up_seconds: f64,
    /// Samples a batch.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Shape of one sample: channels, height and width.
    #[arg(long, value_delimiter = ',', num_args = 3, default_values_t = [1, 28, 28])]
    shape: Vec<usize>,
    /// Batches asked for and not yet counted.
    #[arg(long, default_value_t = 16)]
    ahead: usize,
}

/// Does one part of a benchmark; network traffic runs on `runtime`.
///
/// # Errors
/// What is wrong with the arguments or the teachers.
pub fn execute(arguments: &BenchArguments, runtime: &Handle) -> anyhow::Result<()> {
    let turn = match &arguments.part {
        Part::Stream(arguments) => stream::measure(arguments, runtime)?,
        Part::Echo(arguments) => runtime.block_on(echo::measure(arguments))?,
    };
    writeln!(Results, "{}", serde_json::to_string(&turn)?)?;
    Ok(())
}

impl Load {
    fn shape(&self) -> [usize; 4] {
        let mut shape = [self.batch_size; 4];
        shape[1..].copy_from_slice(&self.shape);
        shape
    }

    fn pixels(&self) -> bytes::Bytes {
        vec![0; self.shape().iter().product()].into()
    }

    fn counter(&self) -> Counter {
        Counter {
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            measured: Duration::from_secs_f64(self.seconds),
            started: Instant::now(),
            watch: None,
            samples: 0,
        }
    }
}

/// Counts samples: first a warm-up that does not count, then the time measured.
struct Counter {
    warm_up: Duration,
    measured: Duration,
    started: Instant,
    /// Absent in the warm-up.
    watch: Option<Stopwatch>,
    samples: u64,
}

impl Counter {
    /// Counts `samples` that just arrived; gives the turn at its end.
    fn count(&mut self, samples: usize) -> Option<Turn> {
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
