//! Load: callers in a closed loop, or calls at Poisson-distributed times in an open one.

use std::{
    cell::RefCell,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{sync::oneshot, task, time};
use tonic::Status;

use super::{
    target::{Caller, Connections, Target},
    usage::{Reading, Usage},
};
use crate::{
    CliError,
    bench::{BenchError, process::pin_this_thread},
};

/// Calls of an open loop that may wait for their answers before the measurement is given up.
const MOST_WAITING: usize = 20_000;
/// The timer of the runtime is no finer.
const TIMER: Duration = Duration::from_millis(2);
/// Nanoseconds: the histograms' range, at three significant digits.
const LONGEST_NS: u64 = 120_000_000_000;

/// How calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Load {
    /// Each of so many callers calls again when it has its answer.
    Closed {
        /// Callers at the same time.
        callers: usize,
    },
    /// Calls begin at random times, however long the answers take. Latency counts from the time at
    /// which a call should have begun, so that a slow answer does not hide those behind it
    /// (coordinated omission).
    Open {
        /// Calls a second, on average.
        rate: f64,
        /// Of the times.
        seed: u64,
    },
}

/// How long calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// Calls that do not count.
    pub warm_up: Duration,
    /// The time measured after it.
    pub measured: Duration,
}

/// What a load came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Calls that ended in the time measured, or were due in it where they came in an open loop.
    pub calls: u64,
    /// Calls a second.
    pub throughput: f64,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p90_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Microseconds.
    pub p999_us: f64,
    /// Microseconds.
    pub longest_us: f64,
    /// Of the server, in the time measured; where the target names its process.
    pub usage: Option<Usage>,
}

impl Measured {
    /// What a call took of `part` of the server's process, where that was watched.
    pub(super) fn a_call(&self, part: fn(&Usage) -> f64) -> Option<f64> {
        Some(part(self.usage.as_ref()?) / self.throughput)
    }

    /// Processor time of the server's process a call, microseconds.
    pub(super) fn cpu_us(&self) -> Option<f64> {
        Some(1e6 * self.a_call(|usage| usage.cpu)?)
    }
}

/// Calls `target` as `load` says, from one thread, on one core where one is given.
///
/// # Errors
/// When a call fails, or the server does not keep up with an open loop.
pub(super) async fn measure(
    target: &Target,
    load: Load,
    window: Window,
    core: Option<usize>,
) -> Result<Measured, CliError> {
    let target = target.clone();
    let (sender, done) = oneshot::channel();
    thread::spawn(move || {
        let measured = on_this_thread(&target, load, window, core);
        // Nobody waits any longer where the benchmark was stopped.
        let _ = sender.send(measured);
    });
    // Holds: nothing in the thread panics.
    done.await.expect("the thread ends")
}

fn on_this_thread(
    target: &Target,
    load: Load,
    window: Window,
    core: Option<usize>,
) -> Result<Measured, CliError> {
    let system = BenchError::system;
    if let Some(core) = core {
        pin_this_thread(core).map_err(system(format!("cannot keep a thread on core {core}")))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the async runtime".to_owned()))?;
    task::LocalSet::new().block_on(&runtime, async {
        let connections = target.connect().await?;
        let record = Rc::new(Record::new(window));
        let usage = task::spawn_local(watch(target.process(), record.begin, record.end));
        match load {
            Load::Closed { callers } => closed_loop(&connections, callers, &record).await,
            Load::Open { rate, seed } => open_loop(&connections, rate, seed, &record).await?,
        }
        // Holds: nothing in the task panics, and nobody aborts it.
        let usage = usage.await.expect("the task ends")?;
        let measured = record.measured(window)?;
        Ok(Measured { usage, ..measured })
    })
}

/// What `process` takes of its core from `begin` to `end`.
async fn watch(
    process: Option<u32>,
    begin: Instant,
    end: Instant,
) -> Result<Option<Usage>, CliError> {
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
        // A task fails only by a panic, of which there is none.
        let _ = caller.await;
    }
}

async fn open_loop(
    connections: &Connections,
    rate: f64,
    seed: u64,
    record: &Rc<Record>,
) -> Result<(), BenchError> {
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
            return Err(BenchError::Overloaded { rate, waiting });
        }
        let mut caller = connections.caller(number);
        let (record, waiting) = (Rc::clone(record), Rc::clone(&waiting));
        task::spawn_local(async move {
            if let Some(ended) = record.call(&mut caller).await {
                // A call that was due in the window counts, even if it outlasts it.
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

/// The time between two events of a Poisson process of `rate` a second: inverse of the exponential
/// distribution's function at a uniform number.
fn exponential(random: &mut ChaCha8Rng, rate: f64) -> Duration {
    let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_secs_f64(-(1.0 - uniform).ln() / rate)
}

/// The last stretch is spun through, letting other tasks run: the core is the load's own.
async fn wait_until(due: Instant) {
    if let Some(left) = due.checked_duration_since(Instant::now() + TIMER) {
        time::sleep(left).await;
    }
    while Instant::now() < due {
        task::yield_now().await;
    }
}

/// What has been measured so far.
struct Record {
    begin: Instant,
    end: Instant,
    latencies: RefCell<Histogram<u64>>,
    failures: RefCell<(u64, Option<Status>)>,
}

impl Record {
    fn new(window: Window) -> Self {
        let begin = Instant::now() + window.warm_up;
        // Holds: the bounds are constants that the histogram takes.
        let latencies = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are valid");
        Self {
            begin,
            end: begin + window.measured,
            latencies: RefCell::new(latencies),
            failures: RefCell::default(),
        }
    }

    /// Makes a call; tells when its answer came.
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

    /// Counts a call that began, or should have begun, at `begun`, if `counted_at` is in the window.
    fn answer(&self, begun: Instant, ended: Instant, counted_at: Instant) {
        if counted_at >= self.begin && counted_at < self.end {
            // Holds: a call does not last for centuries.
            let latency = (ended - begun).as_nanos() as u64;
            self.latencies.borrow_mut().saturating_record(latency);
        }
    }

    fn measured(&self, window: Window) -> Result<Measured, BenchError> {
        let latencies = self.latencies.borrow();
        let calls = latencies.len();
        if let (failed, Some(first)) = &*self.failures.borrow() {
            return Err(BenchError::Calls {
                failed: *failed,
                calls: calls + failed,
                first: first.to_string(),
            });
        }
        if calls == 0 {
            return Err(BenchError::NoCalls);
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
        // Of the distribution: mean 1, and e^-1 of all beyond it; four standard errors.
        assert!((mean - 1.0).abs() < 4.0 / 316.0, "{mean}");
        let share = beyond / times.len() as f64;
        assert!((share - 0.367_88).abs() < 4.0 * 0.482 / 316.0, "{share}");
    }

    #[test]
    fn a_late_answer_counts_from_when_its_call_was_due() {
        let window = Window {
            warm_up: Duration::ZERO,
            measured: Duration::from_secs(60),
        };
        let record = Record::new(window);
        assert!(matches!(record.measured(window), Err(BenchError::NoCalls)));
        let due = Instant::now();
        let after = |micros| due + Duration::from_micros(micros);
        record.answer(due, after(5), due);
        // Due before the window, or after it.
        record.answer(due, after(5), record.begin - Duration::from_millis(1));
        record.answer(due, after(5), record.end);
        let measured = record.measured(window).unwrap();
        assert_eq!((measured.calls, measured.throughput), (1, 1.0 / 60.0));
        assert!((measured.p50_us - 5.0).abs() < 0.01, "{measured:?}");
    }
}
