//! Event files as the real TensorBoard reads them.

use std::{path::Path, process::Command};

use serde_json::Value;

/// What TensorBoard reads in `folder`: `scalars`, and `histograms` with the number of values of each; both are lists of
/// [step, value] by tag.
pub fn read(folder: &Path) -> Value {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = package.join("../../.deps/python/bin/python");
    assert!(python.exists(), "run scripts/setup --tests first");
    let output = Command::new(python)
        .arg(package.join("src/read_events.py"))
        .arg(folder)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}
