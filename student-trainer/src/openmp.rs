//! How libtorch's threads wait for each other.

use std::{env, io, os::unix::process::CommandExt, process::Command};

const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// Makes sure that idle OpenMP threads sleep rather than spin, unless the environment says how they
/// wait: returns when that is so, and else starts the process anew (same id, same arguments).
///
/// By default they spin for milliseconds. Where teachers, or anything else, want the same cores,
/// training then spends most of its time spinning: 2 threads on 2 busy cores were 6 times slower.
/// OpenMP reads its environment when the process starts, so it cannot be told later.
///
/// # Errors
/// When the program cannot be started anew.
pub fn let_idle_threads_sleep() -> io::Result<()> {
    if env::var_os(WAIT_POLICY).is_some() {
        return Ok(());
    }
    // Only returns when it failed.
    Err(Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(WAIT_POLICY, "passive")
        .exec())
}
