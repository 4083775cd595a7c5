//! Waits for conditions, so that no test depends on a fixed time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Time limit for a condition that should hold soon; long enough for a loaded machine.
pub const SOON: Duration = Duration::from_secs(180);

/// Waits until `check` returns a value. `what` names the condition in the failure message.
///
/// # Panics
/// If `check` returns no value within [`SOON`].
pub fn eventually<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    eventually_within(SOON, what, check)
}

/// [`eventually`] with the given time limit.
pub fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `value` has not changed for a second.
pub fn eventually_constant(what: &str, mut value: impl FnMut() -> f64) {
    let mut last = (value(), Instant::now());
    eventually(&format!("the end of {what}"), || {
        let now = value();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
}
