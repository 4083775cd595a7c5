//! Sends a batch to a second teacher if the first is overdue and training waits for it.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::shared::Shared;

/// Shortest time between two checks.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// Hedges overdue batches until the pool is closed.
pub(crate) async fn run(shared: Arc<Shared>) {
    let closed = shared.closed.clone();
    closed.run_until_cancelled(hedge(&shared)).await;
}

async fn hedge(shared: &Shared) {
    loop {
        match shared.queue.hedge() {
            Some(pause) => sleep(pause.max(MIN_PAUSE)).await,
            None => shared.queue.until_not_empty().await,
        }
    }
}
