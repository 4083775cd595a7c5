//! Settings that libraries read from the environment when the process starts.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// None of them changes a bit of any result.
const SETTINGS: [(&str, &str); 3] = [
    // Idle OpenMP threads sleep. By default they spin for milliseconds: where teachers, or anything
    // else, want the same cores, 2 threads on 2 busy cores trained 6 times slower.
    ("OMP_WAIT_POLICY", "passive"),
    // glibc keeps freed memory. Every step frees and asks for the same tensors again; giving their
    // pages back in between cost a tenth of the time. 32 MiB is the most that glibc takes here.
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
];

/// Makes sure that this process runs under settings that suit training; what the environment says
/// already stays. Returns when that is so, and else starts the process anew (same id, same
/// arguments).
///
/// # Errors
/// When the program cannot be started anew.
pub fn prepare() -> io::Result<()> {
    let missing = SETTINGS.map(|(name, value)| match env::var_os(name) {
        Some(_) => None,
        None => Some((name, value)),
    });
    if missing.iter().all(Option::is_none) {
        return Ok(());
    }
    // Only returns when it failed.
    Err(Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .envs(missing.into_iter().flatten())
        .exec())
}
