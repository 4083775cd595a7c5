//! Programs that another program starts and becomes, so that the process id stays the same.

use std::process::Command;

/// `command` with the signals as in a terminal, though a shell or `nohup` made the tests' own process
/// ignore some.
pub fn with_default_signals(command: &Command) -> Command {
    let defaults = ["HUP", "INT", "QUIT"].map(|name| format!("--default-signal={name}"));
    started_by("env", &defaults, command)
}

/// `command` as an argument of `wrapper`.
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
