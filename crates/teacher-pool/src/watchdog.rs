//! Says when training waits for teachers, and gives up when it waits for too long.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{error::PoolError, shared::Shared};

const SECOND: Duration = Duration::from_secs(1);

/// Without an answer for so many seconds, something is wrong that is worth a line.
const STALLED_SECONDS: u64 = 10;

/// Waits until a first teacher is connected.
///
/// # Errors
/// [`PoolError::NoTeacher`] after the configured time.
pub(crate) async fn first_teacher(shared: &Shared) -> Result<(), PoolError> {
    let first = until_connected(shared, |count| count > 0);
    match timeout(shared.config.wait_timeout(), first).await {
        Ok(()) => Ok(()),
        Err(_) => Err(PoolError::NoTeacher {
            seconds: shared.config.wait_timeout_seconds,
            teachers: shared.roster.describe(),
        }),
    }
}

/// Watches over what waits, until the pool is closed.
pub(crate) async fn run(shared: Arc<Shared>) {
    let closed = shared.closed.clone();
    closed.run_until_cancelled(watch(&shared)).await;
}

async fn watch(shared: &Shared) {
    loop {
        tokio::select! {
            () = until_connected(shared, |count| count == 0) => {
                // A phase on hard labels alone needs no teacher: time counts from the first batch.
                shared.queue.demand().await;
                if shared.roster.connected() == 0 {
                    nobody_connected(shared).await;
                }
            }
            () = until_stalled(shared) => nobody_answers(shared).await,
        }
    }
}

/// Nobody is connected: waits for a teacher, or gives up until one comes.
async fn nobody_connected(shared: &Shared) {
    let limit = shared.config.wait_timeout_seconds;
    let started = Instant::now();
    let mut reminders = Reminders::default();
    for waited in 0..limit {
        if reminders.due(waited) {
            let teachers = shared.roster.describe();
            shared.roster.notice(format!(
                "no teacher is connected; training waits, {waited} s of at most {limit} s: \
                 {teachers}"
            ));
        }
        let back = until_connected(shared, |count| count > 0);
        if timeout(SECOND, back).await.is_ok() {
            let waited = started.elapsed().as_secs_f64();
            let text = format!("a teacher is back; training waited {waited:.1} s");
            return shared.roster.notice(text);
        }
        shared.waited_seconds.fetch_add(1, Ordering::Relaxed);
        shared.observer.second_without_teacher();
    }
    give_up(shared, limit);
    until_connected(shared, |count| count > 0).await;
    shared.queue.resume();
}

/// Teachers are connected, and no answer comes: says so, and gives up in the end. A teacher that is
/// only slow is left in peace: the time for an answer comes on top of the time for a teacher.
async fn nobody_answers(shared: &Shared) {
    let limit = longest_stall(shared);
    let mut reminders = Reminders::default();
    loop {
        let waited = shared.queue.stalled_for().as_secs();
        if waited < STALLED_SECONDS.min(limit) || shared.roster.connected() == 0 {
            return;
        }
        if waited >= limit {
            give_up(shared, limit);
            // Those that are there had their chance.
            until_connected(shared, |count| count == 0).await;
            until_connected(shared, |count| count > 0).await;
            return shared.queue.resume();
        }
        if reminders.due(waited) {
            let teachers = shared.roster.describe();
            shared.roster.notice(format!(
                "no teacher has answered for {waited} s: {teachers}"
            ));
        }
        sleep(SECOND).await;
    }
}

/// Seconds without an answer, though teachers are connected, after which nobody waits any more.
fn longest_stall(shared: &Shared) -> u64 {
    shared.config.wait_timeout_seconds + shared.config.answer_timeout_seconds
}

/// Waits until the number of teachers connected is as `wanted`.
async fn until_connected(shared: &Shared, wanted: impl Fn(usize) -> bool) {
    let mut connected = shared.roster.watch_connected();
    // An error would mean that the roster is gone, which lives as long as `shared`.
    let _ = connected.wait_for(|count| wanted(*count)).await;
}

async fn until_stalled(shared: &Shared) {
    let stalled = Duration::from_secs(STALLED_SECONDS.min(longest_stall(shared)));
    loop {
        let rest = stalled.saturating_sub(shared.queue.stalled_for());
        if rest.is_zero() {
            return;
        }
        sleep(rest).await;
    }
}

fn give_up(shared: &Shared, seconds: u64) {
    let teachers = shared.roster.describe();
    let error = PoolError::TeachersGone { seconds, teachers };
    shared.roster.notice(error.to_string());
    shared.queue.give_up(&error);
}

/// When to say something again: after 0, 10, 30, 70, 150 seconds, and every 80 from then on.
#[derive(Debug, Default)]
struct Reminders {
    next: u64,
    pause: u64,
}

impl Reminders {
    fn due(&mut self, seconds: u64) -> bool {
        let due = seconds >= self.next;
        if due {
            self.pause = (2 * self.pause).clamp(10, 80);
            self.next = seconds + self.pause;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_grow_rare() {
        let mut reminders = Reminders::default();
        let told: Vec<u64> = (0..300).filter(|second| reminders.due(*second)).collect();
        assert_eq!(told, [0, 10, 30, 70, 150, 230]);
    }
}
