//! The Helm chart and the Kustomize folders, checked without a cluster.

use std::{path::Path, process::Command};

#[test]
fn the_chart_and_the_kustomizations_pass_their_check() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = repository.join(".deps/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run scripts/setup --tests",
        python.display()
    );
    let output = Command::new(python)
        .arg(repository.join("deploy/check-kubernetes"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problems}");
    assert!(said.contains("mistakes are refused"), "{said}");
}
