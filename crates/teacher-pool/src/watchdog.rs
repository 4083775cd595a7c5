//! Reports when training waits for teachers, and fails the batches when it has waited too long.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{error::PoolError, shared::Shared};

const SECOND: Duration = Duration::from_secs(1);

/// After so many seconds without an answer, the watchdog reports it.
const STALLED_SECONDS: u64 = 10;

/// Waits until a first teacher is connected.
///
/// # Errors
/// [`PoolError::NoTeacher`] after the configured time.
pub(crate) async fn until_first_teacher(shared: &Shared) -> Result<(), PoolError> {
    let first = until_connected(shared, |count| count > 0);
    match timeout(shared.config.wait_timeout(), first).await {
        Ok(()) => Ok(()),
        Err(_) => Err(PoolError::NoTeacher {
            seconds: shared.config.wait_timeout_seconds,
            teachers: shared.roster.describe(),
        }),
    }
}

/// Watches the batches until the pool is closed.
pub(crate) async fn run(shared: Arc<Shared>) {
    let closed = shared.closed.clone();
    closed.run_until_cancelled(watch(&shared)).await;
}

async fn watch(shared: &Shared) {
    loop {
        tokio::select! {
            () = until_connected(shared, |count| count == 0) => {
                // The time counts from the first batch: a phase on hard labels alone needs no teacher.
                shared.queue.until_not_empty().await;
                if shared.roster.connected() == 0 {
                    wait_for_teacher(shared).await;
                }
            }
            () = until_stalled(shared) => wait_for_answer(shared).await,
        }
    }
}

/// Waits for a teacher while none is connected. Fails the batches after the configured time, and until one is connected.
async fn wait_for_teacher(shared: &Shared) {
    let limit = shared.config.wait_timeout_seconds;
    let started = Instant::now();
    let mut reminders = Reminders::default();
    for waited in 0..limit {
        if reminders.is_due(waited) {
            let teachers = shared.roster.describe();
            shared.observer.notice(format!(
                "no teacher is connected; training waits, {waited} s of at most {limit} s: {teachers}"
            ));
        }
        let connected = until_connected(shared, |count| count > 0);
        if timeout(SECOND, connected).await.is_ok() {
            let waited = started.elapsed().as_secs_f64();
            let text = format!("a teacher is available again; training waited {waited:.1} s");
            return shared.observer.notice(text);
        }
        shared.observer.second_without_teacher();
    }
    fail_batches(shared, limit);
    until_connected(shared, |count| count > 0).await;
    shared.queue.resume();
}

/// Waits for an answer while teachers are connected and none answers; reports it, and fails the batches in the end. The
/// limit is the time for a teacher plus the time for an answer, so that a slow teacher is not given up too early.
async fn wait_for_answer(shared: &Shared) {
    let limit = longest_stall(shared);
    let mut reminders = Reminders::default();
    loop {
        let waited = shared.queue.stalled_for().as_secs();
        if waited < STALLED_SECONDS.min(limit) || shared.roster.connected() == 0 {
            return;
        }
        if waited >= limit {
            fail_batches(shared, limit);
            // The connected teachers have not answered: only a new connection changes that.
            until_connected(shared, |count| count == 0).await;
            until_connected(shared, |count| count > 0).await;
            return shared.queue.resume();
        }
        if reminders.is_due(waited) {
            let teachers = shared.roster.describe();
            shared.observer.notice(format!(
                "no teacher has answered for {waited} s: {teachers}"
            ));
        }
        sleep(SECOND).await;
    }
}

/// Returns the seconds without an answer from connected teachers after which the batches fail.
fn longest_stall(shared: &Shared) -> u64 {
    shared.config.wait_timeout_seconds + shared.config.answer_timeout_seconds
}

/// Waits until the number of connected teachers meets `condition`.
async fn until_connected(shared: &Shared, condition: impl Fn(usize) -> bool) {
    let mut connected = shared.roster.watch_connected();
    // An error would mean that the roster was dropped, but `shared` owns it.
    let _ = connected.wait_for(|count| condition(*count)).await;
}

async fn until_stalled(shared: &Shared) {
    let limit = Duration::from_secs(STALLED_SECONDS.min(longest_stall(shared)));
    loop {
        let remaining = limit.saturating_sub(shared.queue.stalled_for());
        if remaining.is_zero() {
            return;
        }
        sleep(remaining).await;
    }
}

fn fail_batches(shared: &Shared, seconds: u64) {
    let teachers = shared.roster.describe();
    let error = PoolError::TeachersGone { seconds, teachers };
    shared.observer.notice(error.to_string());
    shared.queue.fail_all(&error);
}

/// When to repeat a notice: after 0, 10, 30, 70, 150 seconds, and then every 80 seconds.
#[derive(Debug, Default)]
struct Reminders {
    next: u64,
    pause: u64,
}

impl Reminders {
    fn is_due(&mut self, seconds: u64) -> bool {
        let is_due = seconds >= self.next;
        if is_due {
            self.pause = (2 * self.pause).clamp(10, 80);
            self.next = seconds + self.pause;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_reminders_grow() {
        let mut reminders = Reminders::default();
        let due: Vec<u64> = (0..300)
            .filter(|second| reminders.is_due(*second))
            .collect();
        assert_eq!(due, [0, 10, 30, 70, 150, 230]);
    }
}
