//! Runs the program of the benchmarks.

use std::{
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_retort-bench");

pub const FASHION_MNIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.deps/fashion-mnist");

static RUNNING: Mutex<()> = Mutex::new(());

/// Waits until no other test measures, because benchmarks that run at the same time compete for cores.
pub fn exclusively() -> MutexGuard<'static, ()> {
    // Ignores the failure of another test.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The JSON object that `retort-bench ARGUMENTS` prints after one turn.
pub fn figures(arguments: &[&str]) -> Value {
    figures_with(arguments, &[])
}

/// The same with these variables in its environment.
pub fn figures_with(arguments: &[&str], environment: &[(&str, String)]) -> Value {
    let environment = environment.iter().map(|(name, value)| (name, value));
    let output = Command::new(PROGRAM)
        .args(arguments)
        .args(["--json", "--turns", "1"])
        .envs(environment)
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The number at the JSON pointer `key`.
pub fn number(figures: &Value, key: &str) -> f64 {
    let number = figures.pointer(key).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{key} is not in {figures}"))
}
