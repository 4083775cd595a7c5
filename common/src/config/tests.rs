use std::io::Write;

use serde::Deserialize;

use super::*;

const SHIPPED: &str = r#"
name = "shipped"
mode = "fast"
[grpc]
port = 8001
workers = 2
"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    mode: Mode,
    grpc: Grpc,
    #[serde(default)]
    phases: Vec<Phase>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Exact,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grpc {
    port: u16,
    workers: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Phase {
    epochs: u32,
}

impl Validate for Example {
    fn validate(&self, problems: &mut Problems) {
        let workers = self.grpc.workers;
        problems.require(workers > 0, "grpc.workers", workers, "must be 1 or more");
    }
}

fn load(file: &str, environment: &[(&str, &str)], overrides: &[&str]) -> Result<Example, String> {
    let mut on_disk = tempfile::NamedTempFile::new().unwrap();
    on_disk.write_all(file.as_bytes()).unwrap();
    let layers = Layers {
        shipped: SHIPPED,
        file: Some(on_disk.path().to_owned()),
        environment: environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
    };
    layers.load().map_err(|error| error.to_string())
}

#[test]
fn later_layers_win_key_by_key() {
    let environment = [("grpc.port", "3"), ("name", "from environment")];
    let config = load(
        "[grpc]\nport = 2\nworkers = 7\n[[phases]]\nepochs = 5",
        &environment,
        &["grpc.port=4", "mode=exact", "phases[0].epochs=6"],
    )
    .unwrap();
    assert_eq!(config.grpc.port, 4);
    assert_eq!(config.grpc.workers, 7);
    assert_eq!(config.name, "from environment");
    assert_eq!(config.mode, Mode::Exact);
    assert_eq!(config.phases[0].epochs, 6);
}

#[test]
fn every_problem_is_reported_at_once_with_key_value_and_what_is_allowed() {
    let error = load(
        "mode = \"slow\"\ntypo = 1\n[grpc]\nport = 70000\nworkers = 0\n[[phases]]\nepochs = -1",
        &[],
        &[],
    )
    .unwrap_err();
    for part in [
        "5 problems",
        "mode = \"slow\"",
        "expected `fast` or `exact`",
        "typo = 1: unknown field `typo`",
        "grpc.port = 70000",
        "expected u16",
        "grpc.workers = 0: must be 1 or more",
        "phases[0].epochs = -1",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_missing_key_and_others_are_reported_together() {
    let error = load("typo = 1\n[[phases]]\n", &[], &[]).unwrap_err();
    assert!(error.contains("2 problems"), "{error}");
    assert!(error.contains("phases[0]"), "{error}");
    assert!(error.contains("missing field `epochs`"), "{error}");
}

#[test]
fn what_is_not_toml_or_not_there_names_the_file() {
    let error = load("mode = ", &[], &[]).unwrap_err();
    assert!(error.contains("cannot read the configuration"), "{error}");
    let layers = Layers {
        shipped: SHIPPED,
        file: Some("/nowhere/x.toml".into()),
        environment: Vec::new(),
        overrides: Vec::new(),
    };
    let error = layers.load::<Example>().unwrap_err().to_string();
    assert!(error.contains("/nowhere/x.toml"), "{error}");
}

#[test]
fn a_flag_without_a_possible_key_is_refused() {
    let error = load("", &[], &["grpc..port=1"]).unwrap_err();
    assert!(error.contains("grpc..port"), "{error}");
}
