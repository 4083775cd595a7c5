//! Progress reports for slow work.

use std::time::Duration;

use tokio::time::{Instant, interval_at};

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(5);

/// Awaits `work`, and calls `report` with the elapsed seconds every few seconds.
pub async fn reported<T>(work: impl Future<Output = T>, report: impl Fn(u64)) -> T {
    let began = Instant::now();
    let mut interval = interval_at(began + INTERVAL, INTERVAL);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = interval.tick() => report(began.elapsed().as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_slow_work_is_reported() {
        for (seconds, expected) in [(0, &[][..]), (4, &[]), (12, &[5, 10])] {
            let reports = RefCell::new(Vec::new());
            let work = sleep(Duration::from_secs(seconds));
            reported(work, |seconds| reports.borrow_mut().push(seconds)).await;
            assert_eq!(*reports.borrow(), expected, "{seconds} s");
        }
    }
}
