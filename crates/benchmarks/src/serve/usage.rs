//! Processor usage of a server's process during a load, by thread.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::Context;

use crate::cpu_time::{CpuTime, thread_cpu_seconds};

/// The service's name for the thread of an ONNX Runtime session.
const SESSION_THREAD: &str = "session";

/// The usage of a process per second of wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// Processor seconds of all threads, user and kernel.
    pub cpu: f64,
    /// The part of `cpu` in the threads of ONNX Runtime sessions.
    pub session_cpu: f64,
    /// The part of `cpu` in the kernel.
    pub kernel_cpu: f64,
    /// Number of times that a thread went to sleep: voluntary context switches.
    pub sleeps: f64,
}

/// The usage since the process's start.
pub(super) struct Reading {
    at: Instant,
    total: Usage,
}

impl Reading {
    /// Reads the current usage of process `pid`.
    ///
    /// # Errors
    /// If the process does not exist.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let CpuTime { user, kernel } = CpuTime::read(pid)?;
        let mut reading = Self {
            at: Instant::now(),
            total: Usage {
                cpu: user + kernel,
                session_cpu: thread_cpu_seconds(pid, SESSION_THREAD)?,
                kernel_cpu: kernel,
                sleeps: 0.0,
            },
        };
        let threads = process.join("task");
        let named = || threads.display().to_string();
        for thread in fs::read_dir(&threads).with_context(named)? {
            let thread = thread.with_context(named)?.path();
            // A thread that cannot be read has just ended.
            let Ok(status) = fs::read_to_string(thread.join("status")) else {
                continue;
            };
            reading.total.sleeps += sleeps(&status).with_context(|| {
                let thread = thread.display();
                format!("the kernel does not count the context switches of {thread}")
            })?;
        }
        Ok(reading)
    }

    /// The usage between `earlier`, a reading of the same process, and this reading.
    pub(super) fn since(&self, earlier: &Self) -> Usage {
        let seconds = (self.at - earlier.at).as_secs_f64();
        let rate =
            |count: fn(&Usage) -> f64| (count(&self.total) - count(&earlier.total)) / seconds;
        Usage {
            cpu: rate(|usage| usage.cpu),
            session_cpu: rate(|usage| usage.session_cpu),
            kernel_cpu: rate(|usage| usage.kernel_cpu),
            sleeps: rate(|usage| usage.sleeps),
        }
    }
}

/// Parses the voluntary context switches in a thread's `status` file.
fn sleeps(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn readings_include_computing_and_sleeping_of_this_process() {
        let pid = std::process::id();
        let before = Reading::of(pid).unwrap();
        let work = move || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(200) {
                std::hint::spin_loop();
            }
            // The thread must still run when it is read.
            let reading = Reading::of(pid).unwrap();
            // The sleeps of threads that end meanwhile are lost, so one sleep may not suffice.
            while Reading::of(pid).unwrap().since(&reading).sleeps <= 0.0 {
                thread::sleep(Duration::from_millis(1));
            }
            reading
        };
        let named = thread::Builder::new().name(SESSION_THREAD.to_owned());
        let computed = named.spawn(work).unwrap().join().unwrap();
        let usage = computed.since(&before);
        assert!(usage.session_cpu > 0.0 && usage.cpu > 0.0, "{usage:?}");
    }

    #[test]
    fn sleeps_are_read_from_their_own_line() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(sleeps(status), Some(12.0));
        assert_eq!(sleeps("nonvoluntary_ctxt_switches:\t3\n"), None);
    }
}
