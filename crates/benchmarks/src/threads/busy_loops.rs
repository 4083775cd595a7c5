//! Another program that uses the same cores.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::process::pin_this_thread;

/// Threads that compute all the time, one on each core, until they are dropped.
pub(super) struct BusyLoops {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyLoops {
    /// Starts a loop on each of the cores.
    pub(super) fn start(cores: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |core: usize| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                // On a core that this process may use, this cannot fail; anywhere, the loop is busy.
                let _ = pin_this_thread(&[core]);
                let mut sum = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    for number in 0..10_000 {
                        sum = black_box(sum.wrapping_mul(31) ^ number);
                    }
                }
            })
        };
        let threads = cores.iter().copied().map(start).collect();
        Self { stop, threads }
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The loops do not panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{cpu_time::CpuTime, process::usable_cores};
    use std::{process, time::Duration};

    use super::*;

    #[test]
    fn the_loops_compute_until_they_are_dropped() {
        let used = || CpuTime::read(process::id()).unwrap().user;
        let loops = BusyLoops::start(&usable_cores(2).unwrap());
        let begun = used();
        while used() == begun {
            thread::sleep(Duration::from_millis(1));
        }
        drop(loops);
    }
}
