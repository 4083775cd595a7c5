//! The teacher pool, feeding somebody who only counts.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use clap::Args;
use common::turn::Turn;
use teacher_pool::{BatchSize, ExpectedTeacher, PoolConfig, TeacherPool};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Load;
use crate::{events::EventSink, pool_observer::RunPoolObserver};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct StreamArguments {
    /// host:port of each teacher.
    #[arg(required = true)]
    endpoints: Vec<String>,
    /// Logits a sample.
    #[arg(long, default_value_t = 10)]
    classes: usize,
    #[command(flatten)]
    load: Load,
}

/// Keeps `ahead` batches with the teachers and takes the answers in the order of the batches, as
/// training does.
pub(super) fn measure(arguments: &StreamArguments, runtime: &Handle) -> anyhow::Result<Turn> {
    let load = &arguments.load;
    let shape = load.shape();
    let [_, input_shape @ ..] = shape;
    let expected = ExpectedTeacher {
        input_shape,
        classes: arguments.classes,
        class_names: None,
        largest_batch: BatchSize {
            images: shape[0],
            key: "--batch".to_owned(),
        },
        identity: None,
    };
    let config = PoolConfig {
        wait_timeout_seconds: CONNECT_WITHIN.as_secs(),
        prefetch: load.ahead,
        ..PoolConfig::new(arguments.endpoints.clone())
    };
    let cancel = CancellationToken::new();
    let observer = RunPoolObserver::new(EventSink::new(|_| {}).notices());
    let pool = TeacherPool::connect(config, expected, observer, &cancel, runtime)?;
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
            tickets.push_back(pool.submit(pixels.clone(), shape));
        }
        let oldest = tickets.pop_front();
        let oldest = oldest.ok_or_else(|| anyhow!("--ahead must be 1 or more"))?;
        let answer = oldest.wait(&cancel)?;
        if let Some(turn) = counter.count(answer.samples()) {
            return Ok(turn);
        }
    }
}
