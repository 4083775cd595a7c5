//! The trainer's pool of teachers feeds a loop that only counts.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use common::output::Results;
use teacher_pool::{
    BatchSize, ExpectedTeacher, PoolConfig, PoolObserver, TeacherBatch, TeacherPool,
};
use tensors::{DataType, TensorSpec};
use tokio_util::sync::CancellationToken;

use super::soft_target_load::{Load, runtime};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Request soft targets from teachers as a run does, count them, and print their number as JSON.
#[derive(Debug, Args)]
pub(crate) struct PoolArguments {
    /// host:port of each teacher.
    #[arg(required = true)]
    endpoints: Vec<String>,
    /// Number of logits per sample.
    #[arg(long, default_value_t = 10)]
    classes: usize,
    #[command(flatten)]
    load: Load,
}

/// Ignores the pool's events: the benchmark only counts answers.
#[derive(Debug)]
struct Unobserved;

impl PoolObserver for Unobserved {
    fn notice(&self, _: String) {}
}

/// Keeps `--ahead` batches in flight and takes the answers in the order of the batches, as training
/// does.
pub(super) fn measure(arguments: &PoolArguments) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let load = &arguments.load;
    let shape = load.shape();
    let expected = ExpectedTeacher {
        input: TensorSpec::batch_of("input", DataType::Uint8, &shape[1..]),
        classes: arguments.classes,
        class_names: None,
        largest_batch: BatchSize {
            images: shape[0],
            key: "--batch".to_owned(),
        },
        identity: None,
        data: None,
    };
    let config = PoolConfig {
        wait_timeout_seconds: CONNECT_WITHIN.as_secs(),
        prefetch: load.ahead,
        ..PoolConfig::new(arguments.endpoints.clone())
    };
    let cancel = CancellationToken::new();
    let observer = Arc::new(Unobserved);
    let pool = TeacherPool::connect(config, expected, observer, &cancel, runtime.handle())?;
    let started = Instant::now();
    while pool.teachers() < arguments.endpoints.len() {
        if started.elapsed() > CONNECT_WITHIN {
            bail!(
                "only {} of {} teachers are connected",
                pool.teachers(),
                arguments.endpoints.len()
            );
        }
        thread::sleep(Duration::from_millis(1));
    }

    let pixels = load.pixels();
    let mut tickets = VecDeque::with_capacity(load.ahead);
    let mut counter = load.counter();
    loop {
        while tickets.len() < load.ahead {
            tickets.push_back(pool.submit(TeacherBatch {
                data: pixels.clone(),
                samples: shape[0],
                ..TeacherBatch::default()
            }));
        }
        let oldest = tickets.pop_front();
        let oldest = oldest.context("--ahead must be 1 or more")?;
        let answer = oldest.wait(&cancel)?;
        if let Some(measurement) = counter.count(answer.samples()) {
            writeln!(Results, "{}", serde_json::to_string(&measurement)?)?;
            return Ok(());
        }
    }
}
