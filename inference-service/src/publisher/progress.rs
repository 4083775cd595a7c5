//! Logs the progress while the stored models are loaded.

use std::time::Duration;

use artifacts::model_store::ModelName;
use common::slow_work;
use tokio::time::Instant;
use tracing::info;

/// Time between two progress messages.
const INTERVAL: Duration = Duration::from_secs(5);

/// A message names each model that takes longer.
const SLOW: Duration = Duration::from_secs(5);

/// The number of models processed so far.
pub(super) struct Progress {
    done: usize,
    total: usize,
    began: Instant,
    last_message: Instant,
}

impl Progress {
    pub(super) fn of(total: usize) -> Self {
        if total > 0 {
            info!(models = total, "loading the stored models");
        }
        let began = Instant::now();
        Self {
            done: 0,
            total,
            began,
            last_message: began,
        }
    }

    /// Runs `work`, which loads `model`, and logs if it is slow.
    pub(super) async fn watch<T>(&mut self, model: &ModelName, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let (loaded, of) = (self.done, self.total);
        let done = slow_work::reported(work, |seconds| {
            info!(loaded, of, %model, seconds, "a model is still being loaded");
        })
        .await;
        self.done += 1;
        let took = began.elapsed();
        if took > SLOW {
            info!(%model, seconds = took.as_secs(), "the model took long to load");
        }
        let now = Instant::now();
        if now - self.last_message >= INTERVAL
            || (self.done == self.total && now - self.began >= INTERVAL)
        {
            self.last_message = now;
            let seconds = self.began.elapsed().as_secs();
            info!(loaded = self.done, of, seconds, "loading the stored models");
        }
        done
    }
}
