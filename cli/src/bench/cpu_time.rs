//! The processor time of other processes.

use std::{fs, io};

use crate::CliError;

/// Field numbers of /proc/PID/stat after the program's name (proc(5): 14 and 15, from 1).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;

/// Processor time of process `pid` since its start, all threads, in user and kernel; seconds, in
/// steps of a clock tick, which is 10 ms as a rule.
///
/// # Errors
/// When there is no such process.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64, CliError> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(CliError::file(&path))?;
    // The program's name stands in brackets and may hold blanks.
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace()
        .collect();
    let ticks = |number: usize| {
        fields
            .get(number)
            .and_then(|field| field.parse::<u64>().ok())
    };
    let all = ticks(USER_TICKS).zip(ticks(SYSTEM_TICKS));
    let (user, system) =
        all.ok_or_else(|| CliError::file(path)(io::Error::other("no processor time")))?;
    Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}
