//! Bytes that cross this machine's loopback interface.

use std::fs;

use anyhow::Context;

/// The kernel's counters by interface: proc_net_dev(5).
const COUNTERS: &str = "/proc/net/dev";

/// Bytes that the loopback interface has received since its start, with the headers of TCP and IP, of all programs.
///
/// # Errors
/// If the kernel shows no such interface.
pub(super) fn received_bytes() -> anyhow::Result<u64> {
    let text = fs::read_to_string(COUNTERS).context(COUNTERS)?;
    received(&text).with_context(|| format!("{COUNTERS} has no loopback interface"))
}

/// The first counter of the interface `lo`.
fn received(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_that_of_the_loopback_interface() {
        let text = "Inter-|   Receive                |  Transmit\n \
                    face |bytes    packets errs drop|bytes    packets\n\
                    \x20 eth0:  77 1 0 0 88 2\n    lo: 1234 5 0 0 1234 5\n";
        assert_eq!(received(text), Some(1_234));
        assert_eq!(received("eth0: 77 1"), None);
    }
}
