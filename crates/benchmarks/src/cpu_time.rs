//! Processor time of other processes and of their threads.

use std::{fs, path::PathBuf};

use anyhow::Context;

/// Index of `utime` among the fields of /proc/PID/stat after the program's name; `stime` follows
/// (fields 14 and 15 in proc(5)).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;

/// Processor time of process `pid` since its start, of all threads, user and kernel, in seconds. The
/// resolution is a clock tick, usually 10 ms.
///
/// # Errors
/// If the process does not exist.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let time = CpuTime::read(pid)?;
    Ok(time.user + time.kernel)
}

/// Processor time of a process since its start, of all threads, in seconds with the resolution of a
/// clock tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CpuTime {
    pub user: f64,
    pub kernel: f64,
}

impl CpuTime {
    /// Reads the times of process `pid`.
    ///
    /// # Errors
    /// If the process does not exist.
    pub(crate) fn read(pid: u32) -> anyhow::Result<Self> {
        let stat = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&stat).with_context(|| stat.clone())?;
        // The program's name is in parentheses and may contain spaces.
        let fields: Vec<_> = text
            .rsplit_once(')')
            .map_or("", |(_, fields)| fields)
            .split_whitespace()
            .collect();
        let seconds = |number: usize| {
            let ticks: u64 = fields.get(number)?.parse().ok()?;
            Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        let both = seconds(USER_TICKS).zip(seconds(SYSTEM_TICKS));
        let (user, kernel) = both.with_context(|| format!("{stat} has no processor time"))?;
        Ok(Self { user, kernel })
    }
}

/// Processor time of the running threads of process `pid` with this name, in seconds with a
/// resolution of nanoseconds.
///
/// # Errors
/// If the process does not exist, or the kernel does not record the times of threads.
pub(crate) fn thread_cpu_seconds(pid: u32, name: &str) -> anyhow::Result<f64> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let named = || folder.display().to_string();
    let mut nanoseconds = 0;
    for thread in fs::read_dir(&folder).with_context(named)? {
        let thread = thread.with_context(named)?.path();
        let read = |file: &str| {
            let file = thread.join(file);
            match fs::read_to_string(&file) {
                // The thread has ended meanwhile.
                Err(_) if !thread.exists() => Ok(None),
                text => text.map(Some).with_context(|| file.display().to_string()),
            }
        };
        if read("comm")?.is_none_or(|comm| comm.trim_end() != name) {
            continue;
        }
        // proc(5): time on the processor, time waiting for it, time slices.
        if let Some(statistics) = read("schedstat")? {
            let running = statistics.split_whitespace().next();
            let running = running.and_then(|field| field.parse::<u64>().ok());
            nanoseconds +=
                running.with_context(|| format!("{} has no processor time", thread.display()))?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use std::{
        hint::black_box,
        process,
        sync::mpsc::channel,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn only_threads_with_the_name_are_counted() {
        let (ended, wait) = channel::<()>();
        let work = move || {
            (0..20_000_000_u64).fold(0, |sum, number| black_box(sum ^ number));
            let _ = wait.recv();
        };
        let busy = thread::Builder::new().name("busy-thread".to_owned());
        let busy = busy.spawn(work).unwrap();
        let seconds = |name: &str| thread_cpu_seconds(process::id(), name).unwrap();
        let began = Instant::now();
        while seconds("busy-thread") == 0.0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no processor time was measured"
            );
            thread::yield_now();
        }
        assert_eq!(seconds("no-such-thread"), 0.0);
        assert!(seconds("busy-thread") <= cpu_seconds(process::id()).unwrap() + 0.02);
        drop(ended);
        busy.join().unwrap();
    }
}
