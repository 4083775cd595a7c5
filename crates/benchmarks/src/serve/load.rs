//! Load generator: callers in a closed loop, or an open loop with Poisson arrivals.

use std::{
    cell::RefCell,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{sync::oneshot, task, time};
use tonic::Status;

use super::{
    target::{Caller, Connections, Target},
    usage::{Reading, Usage},
};
use crate::process::pin_this_thread;

/// Calls of an open loop that may wait for answers before the measurement fails.
const MOST_WAITING: usize = 20_000;
/// Resolution of the runtime's timer.
const TIMER: Duration = Duration::from_millis(2);
/// Upper limit of the histograms in nanoseconds, with three significant digits.
const LONGEST_NS: u64 = 120_000_000_000;

/// Why a load has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// Calls failed, so the times are meaningless.
    #[error("{failed} of {calls} calls failed; the first: {first}")]
    Calls {
        /// Number of failed calls.
        failed: u64,
        /// Number of calls.
        calls: u64,
        /// The server's first error.
        first: Status,
    },
    /// No call ended within the measured time.
    #[error("no call ended within the measured time; measure longer with --seconds")]
    NoCalls,
    /// The server answers more slowly than the calls are made.
    #[error("the server does not keep up with {rate:.0} calls/s: {waiting} calls are waiting")]
    Overloaded {
        /// Calls per second.
        rate: f64,
        /// Calls without an answer yet.
        waiting: usize,
    },
}

/// The pattern of calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Load {
    /// A fixed number of callers; each calls again when it has its answer.
    Closed {
        /// Number of concurrent callers.
        callers: usize,
    },
    /// Calls begin at random times, independent of the answers. Latency starts at the time at which
    /// a call was due, so that a slow answer does not hide the delay of later calls (coordinated
    /// omission).
    Open {
        /// Calls per second, on average.
        rate: f64,
        /// Seed of the times.
        seed: u64,
    },
}

/// The duration of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// Time before the measurement.
    pub warm_up: Duration,
    /// The measured time after the warm-up.
    pub measured: Duration,
}

/// The result of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Calls that ended within the measured time or, in an open loop, were due in it.
    pub calls: u64,
    /// Calls per second.
    pub throughput: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 90th percentile of the latency, microseconds.
    pub p90_us: f64,
    /// 99th percentile of the latency, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile of the latency, microseconds.
    pub p999_us: f64,
    /// Maximum latency, microseconds.
    pub longest_us: f64,
    /// Usage of the server's process in the measured time, if the target has its process id.
    pub usage: Option<Usage>,
}

impl Measured {
    /// The amount of `part` of the server's usage per call, if it was measured.
    pub(super) fn a_call(&self, part: fn(&Usage) -> f64) -> Option<f64> {
        Some(part(self.usage.as_ref()?) / self.throughput)
    }

    /// Processor time of the server's process per call, microseconds.
    pub(super) fn cpu_us(&self) -> Option<f64> {
        Some(1e6 * self.a_call(|usage| usage.cpu)?)
    }
}

/// Applies `load` to `target` from one thread, on `core` if given.
///
/// # Errors
/// If a call fails, or the server does not keep up with an open loop.
pub(super) async fn measure(
    target: &Target,
    load: Load,
    window: Window,
    core: Option<usize>,
) -> anyhow::Result<Measured> {
    let target = target.clone();
    let (sender, done) = oneshot::channel();
    thread::spawn(move || {
        let measured = on_this_thread(&target, load, window, core);
        // The receiver is dropped if the benchmark was stopped.
        let _ = sender.send(measured);
    });
    // Cannot fail: the thread does not panic.
    done.await.expect("the thread ends")
}

fn on_this_thread(
    target: &Target,
    load: Load,
    window: Window,
    core: Option<usize>,
) -> anyhow::Result<Measured> {
    if let Some(core) = core {
        pin_this_thread(&[core]).with_context(|| format!("cannot pin a thread to core {core}"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    task::LocalSet::new().block_on(&runtime, async {
        let connections = target.connect().await?;
        let record = Rc::new(Record::new(window));
        let usage = task::spawn_local(watch(target.process(), record.begin, record.end));
        match load {
            Load::Closed { callers } => closed_loop(&connections, callers, &record).await,
            Load::Open { rate, seed } => open_loop(&connections, rate, seed, &record).await?,
        }
        // Cannot fail: the task does not panic and is not aborted.
        let usage = usage.await.expect("the task ends")?;
        let measured = record.measured(window)?;
        Ok(Measured { usage, ..measured })
    })
}

/// Measures the usage of `process` from `begin` to `end`.
async fn watch(
    process: Option<u32>,
    begin: Instant,
    end: Instant,
) -> anyhow::Result<Option<Usage>> {
    let Some(pid) = process else {
        return Ok(None);
    };
    time::sleep_until(begin.into()).await;
    let before = Reading::of(pid)?;
    time::sleep_until(end.into()).await;
    Ok(Some(Reading::of(pid)?.since(&before)))
}

async fn closed_loop(connections: &Connections, callers: usize, record: &Rc<Record>) {
    let callers: Vec<_> = (0..callers)
        .map(|number| {
            let mut caller = connections.caller(number);
            let record = Rc::clone(record);
            task::spawn_local(async move {
                loop {
                    let begun = Instant::now();
                    if begun >= record.end {
                        return;
                    }
                    if let Some(ended) = record.call(&mut caller).await {
                        record.answer(begun, ended, ended);
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        // Cannot fail: the task does not panic.
        let _ = caller.await;
    }
}

async fn open_loop(
    connections: &Connections,
    rate: f64,
    seed: u64,
    record: &Rc<Record>,
) -> Result<(), LoadError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let waiting = Rc::new(());
    let mut due = Instant::now();
    for number in 0.. {
        due += exponential(&mut random, rate);
        if due >= record.end {
            break;
        }
        wait_until(due).await;
        if Rc::strong_count(&waiting) > MOST_WAITING {
            let waiting = MOST_WAITING;
            return Err(LoadError::Overloaded { rate, waiting });
        }
        let mut caller = connections.caller(number);
        let (record, waiting) = (Rc::clone(record), Rc::clone(&waiting));
        task::spawn_local(async move {
            if let Some(ended) = record.call(&mut caller).await {
                // A call that was due in the window counts, even if it ends later.
                record.answer(due, ended, due);
            }
            drop(waiting);
        });
    }
    while Rc::strong_count(&waiting) > 1 {
        time::sleep(TIMER).await;
    }
    Ok(())
}

/// The time between two events of a Poisson process with `rate` events per second, by inverse
/// transform sampling of the exponential distribution.
fn exponential(random: &mut ChaCha8Rng, rate: f64) -> Duration {
    let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_secs_f64(-(1.0 - uniform).ln() / rate)
}

/// Sleeps until shortly before `due`, then spins and yields to other tasks. The load has its own core.
async fn wait_until(due: Instant) {
    if let Some(left) = due.checked_duration_since(Instant::now() + TIMER) {
        time::sleep(left).await;
    }
    while Instant::now() < due {
        task::yield_now().await;
    }
}

/// The measurements so far.
struct Record {
    begin: Instant,
    end: Instant,
    latencies: RefCell<Histogram<u64>>,
    failures: RefCell<(u64, Option<Status>)>,
}

impl Record {
    fn new(window: Window) -> Self {
        let begin = Instant::now() + window.warm_up;
        // Cannot fail: the bounds are valid constants.
        let latencies = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are valid");
        Self {
            begin,
            end: begin + window.measured,
            latencies: RefCell::new(latencies),
            failures: RefCell::default(),
        }
    }

    /// Makes a call and returns the time of its answer.
    async fn call(&self, caller: &mut Caller) -> Option<Instant> {
        let outcome = caller.call().await;
        let ended = Instant::now();
        if let Err(status) = outcome {
            let mut failures = self.failures.borrow_mut();
            failures.0 += 1;
            failures.1.get_or_insert(status);
            return None;
        }
        Some(ended)
    }

    /// Counts a call that began, or was due, at `begun`, if `counted_at` is in the window.
    fn answer(&self, begun: Instant, ended: Instant, counted_at: Instant) {
        if counted_at >= self.begin && counted_at < self.end {
            // Does not overflow: calls do not take centuries.
            let latency = (ended - begun).as_nanos() as u64;
            self.latencies.borrow_mut().saturating_record(latency);
        }
    }

    fn measured(&self, window: Window) -> Result<Measured, LoadError> {
        let latencies = self.latencies.borrow();
        let calls = latencies.len();
        if let (failed, Some(first)) = &*self.failures.borrow() {
            return Err(LoadError::Calls {
                failed: *failed,
                calls: calls + failed,
                first: first.clone(),
            });
        }
        if calls == 0 {
            return Err(LoadError::NoCalls);
        }
        let quantile = |share| latencies.value_at_quantile(share) as f64 / 1e3;
        Ok(Measured {
            calls,
            throughput: calls as f64 / window.measured.as_secs_f64(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            longest_us: latencies.max() as f64 / 1e3,
            usage: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_calls_are_exponential() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let times: Vec<f64> = (0..100_000)
            .map(|_| exponential(&mut random, 1000.0).as_secs_f64() * 1000.0)
            .collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let beyond = times.iter().filter(|time| **time > 1.0).count() as f64;
        // The distribution has mean 1, and a fraction e^-1 is above the mean; tolerance: four standard errors.
        assert!((mean - 1.0).abs() < 4.0 / 316.0, "{mean}");
        let share = beyond / times.len() as f64;
        assert!((share - 0.367_88).abs() < 4.0 * 0.482 / 316.0, "{share}");
    }

    #[test]
    fn latency_starts_at_the_time_a_call_was_due() {
        let window = Window {
            warm_up: Duration::ZERO,
            measured: Duration::from_secs(60),
        };
        let record = Record::new(window);
        assert!(matches!(record.measured(window), Err(LoadError::NoCalls)));
        let due = Instant::now();
        let after = |micros| due + Duration::from_micros(micros);
        record.answer(due, after(5), due);
        // Calls that were due before or after the window do not count.
        record.answer(due, after(5), record.begin - Duration::from_millis(1));
        record.answer(due, after(5), record.end);
        let measured = record.measured(window).unwrap();
        assert_eq!((measured.calls, measured.throughput), (1, 1.0 / 60.0));
        assert!((measured.p50_us - 5.0).abs() < 0.01, "{measured:?}");
    }
}
