//! What one turn of a benchmark did: how a service's `bench` command reports to `retort bench`.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One turn of a benchmark; printed as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Samples that went through.
    pub samples: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Processor time of the whole process, all its threads, in user and kernel.
    pub cpu_seconds: f64,
}

/// A turn under way.
#[derive(Debug)]
pub struct Stopwatch {
    started: Instant,
    cpu_seconds: f64,
}

impl Turn {
    /// Samples a second of wall-clock time.
    pub fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.seconds
    }

    /// Processor time a sample, seconds.
    pub fn cpu_seconds_per_sample(&self) -> f64 {
        self.cpu_seconds / self.samples as f64
    }
}

impl Stopwatch {
    /// Begins a turn.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu_seconds: cpu_seconds(),
        }
    }

    /// Ends the turn, in which `samples` went through.
    pub fn stop(self, samples: u64) -> Turn {
        Turn {
            samples,
            seconds: self.started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - self.cpu_seconds,
        }
    }
}

/// Of this process since its start.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_all_threads_and_time_passes_in_a_pause() {
        let watch = Stopwatch::start();
        std::thread::sleep(std::time::Duration::from_millis(20));
        // Each thread's own clock; the process has other threads, too.
        let work = || {
            (0..20_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
            let own = clock_gettime(ClockId::ThreadCPUTime);
            own.tv_sec as f64 + own.tv_nsec as f64 / 1e9
        };
        let threads = std::thread::scope(|scope| {
            let threads = [scope.spawn(work), scope.spawn(work)];
            threads.map(|thread| thread.join().expect("it ends"))
        });
        let turn = watch.stop(10);
        assert!(threads.iter().all(|seconds| *seconds > 0.0));
        assert!(turn.cpu_seconds >= threads.iter().sum(), "{turn:?}");
        assert!(turn.seconds > 0.02, "{turn:?}");
        assert!(turn.samples_per_second() < 500.0);
    }
}
