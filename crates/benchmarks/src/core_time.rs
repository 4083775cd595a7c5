//! How busy cores were, with all programs of the machine.

use std::fs;

use anyhow::{Context, Result};

const STATISTICS: &str = "/proc/stat";

/// Time of some cores since the machine started, in clock ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CoreTime {
    /// Neither idle nor waiting for a disk.
    busy: u64,
    total: u64,
}

impl CoreTime {
    /// Reads the times of `cores`.
    ///
    /// # Errors
    /// If the kernel does not report them.
    pub(crate) fn read(cores: &[usize]) -> Result<Self> {
        let text = fs::read_to_string(STATISTICS).context(STATISTICS)?;
        let time = Self::parse(&text, cores);
        time.with_context(|| format!("{STATISTICS} has no times of the cores {cores:?}"))
    }

    fn parse(text: &str, cores: &[usize]) -> Option<Self> {
        let mut time = Self::default();
        for core in cores {
            let name = format!("cpu{core} ");
            let mut lines = text.lines();
            let ticks = lines.find_map(|line| line.strip_prefix(name.as_str()))?;
            let ticks = ticks.split_whitespace().map(|field| field.parse().ok());
            let ticks = ticks.collect::<Option<Vec<u64>>>()?;
            // proc_stat(5). The times of guests, which follow, are parts of user and nice.
            let [user, nice, system, idle, disk, irq, softirq, steal, ..] = ticks[..] else {
                return None;
            };
            let busy = user + nice + system + irq + softirq + steal;
            time.busy += busy;
            time.total += busy + idle + disk;
        }
        Some(time)
    }

    /// The share of the time since `begin` in which the cores were busy.
    pub(crate) fn busy_share_since(self, begin: Self) -> f64 {
        let busy = self.busy.saturating_sub(begin.busy);
        // A clock tick at least: a share is a number.
        let total = self.total.saturating_sub(begin.total).max(1);
        busy as f64 / total as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asked_cores_count() {
        let text = "cpu  900 0 0 900 0 0 0 0 0 0\n\
                    cpu1 10 20 30 400 50 1 2 3 7 0\n\
                    cpu10 5 0 0 5 0 0 0 0 0 0\n\
                    intr 1 2 3\n";
        let parse = |cores: &[usize]| CoreTime::parse(text, cores);
        let of = |busy, total| Some(CoreTime { busy, total });
        assert_eq!(parse(&[1]), of(66, 516));
        assert_eq!(parse(&[10, 1]), of(71, 526));
        assert_eq!(parse(&[0]), None);
        assert_eq!(CoreTime::parse("cpu1 1 2 3\n", &[1]), None);
    }

    #[test]
    fn the_share_is_that_of_the_time_between() {
        let at = |busy, total| CoreTime { busy, total };
        assert_eq!(at(130, 240).busy_share_since(at(100, 200)), 0.75);
        assert_eq!(at(100, 200).busy_share_since(at(100, 200)), 0.0);
    }
}
