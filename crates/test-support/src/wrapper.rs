//! Starts a program through a wrapper, such as `env` or `nohup`, that replaces itself with the program
//! and so keeps the process id.

use std::process::Command;

/// Wraps `command` so that it starts with default signal handling, even if the tests' own process
/// ignores signals because a shell or `nohup` started it.
pub fn with_default_signals(command: &Command) -> Command {
    let defaults = ["HUP", "INT", "QUIT"].map(|name| format!("--default-signal={name}"));
    started_by("env", &defaults, command)
}

/// Wraps `command` so that it may use one CPU.
pub fn on_one_cpu(command: &Command) -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let allowed = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    // Such as `0-3,8`.
    let first = allowed.unwrap().trim().split([',', '-']).next().unwrap();
    started_by("taskset", &["-c".to_owned(), first.to_owned()], command)
}

/// Wraps `command`: runs `wrapper` with `arguments`, followed by `command` and its arguments.
pub fn started_by(wrapper: &str, arguments: &[String], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper);
    wrapped.args(arguments);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}
