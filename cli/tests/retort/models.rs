//! `retort models` against a real service.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use test_support::{InferenceService, SigningKeys};

const RETORT: &str = env!("CARGO_BIN_EXE_retort");

fn models(service: &InferenceService, arguments: &[&str]) -> Output {
    Command::new(RETORT)
        .arg("models")
        .args(arguments)
        .args(["--admin", &service.address("admin")])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs a command that must succeed and returns its standard output.
fn printed(service: &InferenceService, arguments: &[&str]) -> String {
    let output = models(service, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns number and state of every version in a listing.
fn listed(service: &InferenceService, arguments: &[&str]) -> Vec<String> {
    let table = printed(service, arguments);
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words[1..3].join(" ")
    };
    table.lines().skip(1).map(line).collect()
}

/// Copies an artifact from `version`, a folder of the store, to `to` and renames its classes.
fn rename_classes(version: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::copy(version.join("model.onnx"), to.join("model.onnx")).unwrap();
    let manifest = fs::read(version.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for name in manifest["class_names"].as_array_mut().unwrap() {
        *name = json!(format!("class {}", name.as_str().unwrap()));
    }
    fs::write(to.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn versions_are_published_activated_and_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let service = InferenceService::start(RETORT, folder.path());
    let first = folder.path().join("models/model/1");
    let artifact = folder.path().join("artifact");
    rename_classes(&first, &artifact);
    let publish = ["publish", "model", artifact.to_str().unwrap()];
    assert_eq!(printed(&service, &publish), "model: version 2 serves\n");
    let again = printed(&service, &publish);
    assert_eq!(again, "model: version 2 serves; it was stored already\n");
    let versions = ["versions", "model"];
    assert_eq!(listed(&service, &versions), ["1 stored", "2 active"]);

    let to_the_first = "model: version 1 serves; before it served version 2\n";
    let activate = |version| printed(&service, &["activate", "model", version]);
    assert_eq!(activate("1"), to_the_first);
    assert_eq!(listed(&service, &["list"]), ["1 active"]);
    activate("2");
    assert_eq!(listed(&service, &["list"]), ["2 active"]);
    let rollback = ["rollback", "model"];
    assert_eq!(printed(&service, &rollback), to_the_first);
    assert_eq!(listed(&service, &versions), ["1 active", "2 stored"]);

    // No older version is left, and a damaged version does not count.
    let nothing_older = || {
        let output = models(&service, &rollback);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("no usable version older"), "{said}");
    };
    nothing_older();
    activate("2");
    fs::write(first.join("manifest.json"), "{").unwrap();
    assert_eq!(listed(&service, &versions), ["1 damaged", "2 active"]);
    nothing_older();
}

#[test]
fn an_artifact_is_signed_and_uploaded_with_its_signature() {
    let folder = tempfile::tempdir().unwrap();
    let service = InferenceService::start(RETORT, folder.path());
    let store = folder.path().join("models/model");
    let artifact = folder.path().join("artifact");
    rename_classes(&store.join("1"), &artifact);
    let keys = SigningKeys::write(folder.path(), "key");
    let publish = |key: &Path| {
        let [artifact, key] = [artifact.as_path(), key].map(|path| path.to_str().unwrap());
        models(
            &service,
            &["publish", "model", artifact, "--signing-key", key],
        )
    };
    // A public key does not sign.
    let refused = publish(&keys.public);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(
        said.contains("key.pub: has no unencrypted private key"),
        "{said}"
    );
    assert!(!artifact.join("model.sig").exists());

    let published = publish(&keys.private);
    let said = String::from_utf8_lossy(&published.stderr);
    assert!(published.status.success(), "{said}");
    let signature = fs::read(artifact.join("model.sig")).unwrap();
    assert!(fs::read(store.join("2/model.sig")).unwrap() == signature);
    assert!(!store.join("1/model.sig").exists());
}

#[test]
fn variables_that_are_not_utf8_are_ignored_or_refused_by_the_name_of_their_option() {
    let odd = OsStr::from_bytes(b"a\xa3b");
    let retort = |variable: &str, arguments: &[&str]| {
        let mut command = Command::new(RETORT);
        command.args(arguments).env(variable, odd).output().unwrap()
    };
    assert!(retort("X", &["models", "--help"]).status.success());
    for (variable, arguments, named) in [
        (
            "RETORT_SERVER_NAME",
            &["models", "list"][..],
            "--server-name",
        ),
        ("RETORT_ADMIN_ADDRESS", &["models", "list"], "--admin"),
        (
            "RETORT_INFERENCE_ADDRESS",
            &["predict", "--model", "m"],
            "--url",
        ),
        ("RETORT_TRAINER_ADDRESS", &["runs", "list"], "--trainer"),
        (
            "RETORT_TOKEN_IN_PLAIN_TEXT",
            &["runs", "list"],
            "--token-in-plain-text",
        ),
        ("RETORT_TOKEN", &["runs", "list"], "RETORT_TOKEN"),
        ("X", &["demo", "--data", "/nowhere"], "/nowhere"),
    ] {
        let refused = retort(variable, arguments);
        let said = String::from_utf8_lossy(&refused.stderr);
        let code = if variable == "X" { 1 } else { 64 };
        assert_eq!(refused.status.code(), Some(code), "{variable}: {said}");
        assert!(said.contains(named), "{variable}: {said}");
    }
}

#[test]
fn a_canary_is_listed_beside_the_active_version_until_it_is_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let service = InferenceService::start(RETORT, folder.path());
    let first = folder.path().join("models/model/1");
    let renamed = folder.path().join("renamed");
    rename_classes(&first, &renamed);
    let publish = |artifact: &Path, share: &str| {
        let artifact = artifact.to_str().unwrap();
        models(&service, &["publish", "model", artifact, "--canary", share])
    };
    let refused = publish(&renamed, "10%");
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("class_names") && said.contains("--canary 0%"),
        "{said}"
    );
    assert_eq!(publish(&renamed, "51%").status.code(), Some(64));

    // The same model with another manifest is another version.
    let canary = folder.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::copy(first.join("model.onnx"), canary.join("model.onnx")).unwrap();
    let manifest = fs::read(first.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let tolerance = manifest["golden_batch"]["tolerance"].as_f64().unwrap();
    manifest["golden_batch"]["tolerance"] = json!(tolerance * 2.0);
    fs::write(canary.join("manifest.json"), manifest.to_string()).unwrap();
    let published = publish(&canary, "10%");
    let printed_text = String::from_utf8(published.stdout).unwrap();
    assert_eq!(
        printed_text,
        "model: version 2 is a canary; version 1 serves\n"
    );
    assert_eq!(listed(&service, &["list"]), ["1 active", "2 canary"]);
    let versions = printed(&service, &["versions", "model"]);
    assert!(
        versions.contains("10% of the requests: answered 0"),
        "{versions}"
    );

    printed(&service, &["activate", "model", "1"]);
    assert_eq!(listed(&service, &["list"]), ["1 active"]);
    assert_eq!(
        listed(&service, &["versions", "model"]),
        ["1 active", "2 stored"]
    );
}

#[test]
fn a_model_is_deleted_with_all_its_versions_once_that_is_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let service = InferenceService::start(RETORT, folder.path());
    let artifact = folder.path().join("artifact");
    rename_classes(&folder.path().join("models/model/1"), &artifact);
    printed(&service, &["publish", "model", artifact.to_str().unwrap()]);

    // Without --yes and a terminal, the command cannot ask for confirmation.
    let output = models(&service, &["delete", "model", "--all"]);
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(listed(&service, &["list"]), ["2 active"]);
    for wrong in [&["delete", "model"][..], &["delete", "model", "1", "--all"]] {
        assert_ne!(models(&service, wrong).status.code(), Some(0), "{wrong:?}");
    }

    let deleted = printed(&service, &["delete", "model", "--all", "--yes"]);
    assert_eq!(deleted, "model: deleted, 2 versions\n");
    assert!(listed(&service, &["list"]).is_empty());
    assert!(!folder.path().join("models/model").exists());
    let again = models(&service, &["delete", "model", "--all", "--yes"]);
    assert_eq!(again.status.code(), Some(1));
    let published = printed(&service, &["publish", "model", artifact.to_str().unwrap()]);
    assert_eq!(published, "model: version 3 serves\n");
}
