//! Environment variables that libraries read when the process starts.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// Ensures that the environment contains `settings`, pairs of name and value, and keeps variables that are
/// set already. Call this first in `main`.
///
/// # Errors
/// See [`add`].
pub fn require(settings: &[(&str, &str)]) -> io::Result<()> {
    add(missing(settings, |name| env::var_os(name).is_some()))
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

fn missing<'s>(
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
        let settings = [("OMP_WAIT_POLICY", "passive"), ("MALLOC_ARENA_MAX", "1")];
        let is_set = |name: &str| name == "OMP_WAIT_POLICY";
        assert_eq!(missing(&settings, is_set), [("MALLOC_ARENA_MAX", "1")]);
        assert_eq!(missing(&settings, |_| true), []);
    }
}
