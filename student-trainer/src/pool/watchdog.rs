//! Waits for teachers, and gives up when nobody is connected for too long.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{PoolError, Shared};

/// Waits until a first teacher is connected.
///
/// # Errors
/// [`PoolError::NoTeacher`] after the configured time.
pub(super) async fn first_teacher(shared: &Shared) -> Result<(), PoolError> {
    let mut connected = shared.roster.watch_connected();
    within_limit(shared, connected.wait_for(|count| *count > 0)).await
}

/// Fails what waits whenever nobody is connected for too long; runs until the pool is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let closed = shared.closed.clone();
    tokio::select! {
        () = closed.cancelled() => {}
        () = watch(&shared) => {}
    }
}

async fn watch(shared: &Shared) {
    let seconds = shared.config.wait_timeout_seconds;
    let mut connected = shared.roster.watch_connected();
    loop {
        // Changes come from the roster, which lives as long as `shared`.
        let _ = connected.wait_for(|count| *count == 0).await;
        // A phase on hard labels alone needs no teacher: the time counts from the first batch.
        shared.queue.not_empty().await;
        if *connected.borrow() > 0 {
            continue;
        }
        let teachers = shared.roster.describe();
        shared.roster.warn(&format!(
            "no teacher is connected; waiting for one for at most {seconds} s: {teachers}"
        ));
        let back = connected.wait_for(|count| *count > 0);
        if let Err(error) = within_limit(shared, back).await {
            shared.queue.fail_all(&error);
        }
    }
}

async fn within_limit<T>(
    shared: &Shared,
    connected: impl Future<Output = T>,
) -> Result<(), PoolError> {
    let seconds = shared.config.wait_timeout_seconds;
    match timeout(Duration::from_secs(seconds), connected).await {
        Ok(_) => Ok(()),
        Err(_) => Err(PoolError::NoTeacher {
            seconds,
            teachers: shared.roster.describe(),
        }),
    }
}
