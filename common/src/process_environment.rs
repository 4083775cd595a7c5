//! Environment variables that libraries read when the process starts.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// Settings for the speed of programs that compute with large tensors. None of them changes a result.
pub const TENSOR_SETTINGS: [(&str, &str); 3] = [SHORT_SPINS, KEPT_MEMORY[0], KEPT_MEMORY[1]];

/// Idle OpenMP threads (GNU's libgomp) spin for a third of a millisecond and then sleep. By default they spin for
/// milliseconds: when other programs used the same cores, 2 threads on 2 busy cores trained several times slower.
/// Threads that sleep at once take a fifth longer on idle cores (`retort-bench threads`).
const SHORT_SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "30000");

/// glibc keeps freed memory. Every batch allocates and frees the same tensors; if their pages go back to the kernel in
/// between, the next batch faults them in again. Without the first setting, glibc maps each allocation of 32 MiB or more.
/// With both, up to 1 GiB stays free at the end of the heap.
pub const KEPT_MEMORY: [(&str, &str); 2] = [
    ("MALLOC_MMAP_MAX_", "0"),
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
];

/// All threads share one heap. By default, other threads than the main one have arenas, which glibc unmaps when they are
/// empty: a run is such a thread, and with mapped allocations this took a third of the time of a MobileNetV2's steps. Not
/// for a teacher, where the buffers of slow connections would lie between the tensors: with 20 of them its memory grew by
/// 130 MiB instead of 83.
pub const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// Ensures that the environment contains `settings`, pairs of name and value, and keeps variables that are
/// set already. Call this first in `main`.
///
/// # Errors
/// See [`add`].
pub fn require(settings: &[(&str, &str)]) -> io::Result<()> {
    add(missing(settings))
}

/// Those of `settings`, pairs of name and value, whose variables are not set.
pub fn missing<'s>(settings: &[(&'s str, &'s str)]) -> Vec<(&'s str, &'s str)> {
    unset(settings, |name| env::var_os(name).is_some())
}

/// Returns if `variables`, pairs of name and value, is empty; otherwise executes the program again (same
/// process id, same arguments) with the variables set, because a process with threads cannot change its
/// environment safely. The caller must add nothing the second time.
///
/// # Errors
/// If the program cannot be executed.
pub fn add(variables: Vec<(&str, &str)>) -> io::Result<()> {
    if variables.is_empty() {
        return Ok(());
    }
    // Returns only on failure.
    Err(Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .envs(variables)
        .exec())
}

fn unset<'s>(
    settings: &[(&'s str, &'s str)],
    is_set: impl Fn(&str) -> bool,
) -> Vec<(&'s str, &'s str)> {
    let settings = settings.iter().copied();
    settings.filter(|(name, _)| !is_set(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_set_is_missing() {
        let settings = [SHORT_SPINS, ONE_HEAP];
        let is_set = |name: &str| name == "GOMP_SPINCOUNT";
        assert_eq!(unset(&settings, is_set), [ONE_HEAP]);
        assert_eq!(unset(&settings, |_| true), []);
    }
}
