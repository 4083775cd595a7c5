//! What a benchmark measured while samples were processed.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Samples, and the time that they took. Parts of benchmarks print it as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Number of samples that were processed.
    pub samples: u64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Processor time of all threads of the measured processes, user and kernel.
    pub cpu_seconds: f64,
}

/// A measurement of this process that is under way.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    cpu_seconds: f64,
}

impl Measurement {
    /// Samples per second of wall-clock time.
    pub(crate) fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.seconds
    }

    /// Processor time per sample in seconds.
    pub(crate) fn cpu_seconds_per_sample(&self) -> f64 {
        self.cpu_seconds / self.samples as f64
    }
}

impl Stopwatch {
    /// Begins a measurement.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu_seconds: cpu_seconds(),
        }
    }

    /// Ends the measurement, in which `samples` were processed.
    pub(crate) fn stop(self, samples: u64) -> Measurement {
        Measurement {
            samples,
            seconds: self.started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - self.cpu_seconds,
        }
    }
}

/// Processor time of this process since its start.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_all_threads_and_wall_clock_time_includes_pauses() {
        let watch = Stopwatch::start();
        std::thread::sleep(std::time::Duration::from_millis(20));
        // Each thread has its own clock, and the process has other threads, too.
        let work = || {
            (0..20_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
            let own = clock_gettime(ClockId::ThreadCPUTime);
            own.tv_sec as f64 + own.tv_nsec as f64 / 1e9
        };
        let threads = std::thread::scope(|scope| {
            let threads = [scope.spawn(work), scope.spawn(work)];
            threads.map(|thread| thread.join().expect("the thread ends"))
        });
        let measurement = watch.stop(10);
        assert!(threads.iter().all(|seconds| *seconds > 0.0));
        assert!(
            measurement.cpu_seconds >= threads.iter().sum(),
            "{measurement:?}"
        );
        assert!(measurement.seconds > 0.02, "{measurement:?}");
        assert!(measurement.samples_per_second() < 500.0);
    }
}
