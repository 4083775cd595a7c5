//! Variables that libraries read from the environment when a process starts.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// Makes sure that this process has `settings`, pairs of a variable's name and its value; a variable
/// that is set already stays as it is. To be called first thing in `main`.
///
/// # Errors
/// See [`add`].
pub fn require(settings: &[(&str, &str)]) -> io::Result<()> {
    add(missing(settings, |name| env::var_os(name).is_some()))
}

/// Returns when there is nothing to add, and else starts the process anew (same id, same arguments)
/// with `variables`, pairs of a name and a value: a running process with threads cannot change its
/// environment safely. The caller makes sure that it adds nothing the second time.
///
/// # Errors
/// When the program cannot be started anew.
pub fn add(variables: Vec<(&str, &str)>) -> io::Result<()> {
    if variables.is_empty() {
        return Ok(());
    }
    // Only returns when it failed.
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
