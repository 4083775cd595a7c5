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
            .map(|(key, value)| Variable {
                name: format!("X__{key}").into(),
                key: (*key).into(),
                value: (*value).into(),
            })
            .collect(),
        overrides: overrides.iter().map(Into::into).collect(),
    };
    layers.load().map_err(|error| error.to_string())
}

#[test]
fn later_layers_win_key_by_key() {
    let environment = [("GRPC__PORT", "3"), ("NAME", "from environment")];
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

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    seed: u64,
    loss: Loss,
    clip_norm: Option<f64>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Loss {
    Soft {
        temperature: f64,
        #[serde(default)]
        weight: Option<f64>,
    },
    Hard {
        #[serde(default)]
        smoothing: f64,
    },
}

impl Validate for Training {
    fn validate(&self, _: &mut Problems) {}
}

fn load_training(text: &str) -> Result<Training, String> {
    let shipped = "seed = 1\n[loss]\nkind = \"soft\"\ntemperature = 2.0\nweight = 0.5";
    let layers = Layers::shipped(shipped);
    layers.load_text(text).map_err(|error| error.to_string())
}

#[test]
fn a_table_of_another_kind_replaces_the_one_below_it() {
    let soft = |temperature| Loss::Soft {
        temperature,
        weight: Some(0.5),
    };
    for (text, loss) in [
        ("", soft(2.0)),
        ("loss.temperature = 4.0", soft(4.0)),
        ("loss = { kind = \"soft\", temperature = 4.0 }", soft(4.0)),
        (
            "loss = { kind = \"hard\", smoothing = 0.1 }",
            Loss::Hard { smoothing: 0.1 },
        ),
    ] {
        let training = load_training(text).unwrap();
        assert_eq!((training.seed, training.loss), (1, loss), "{text}");
    }
}

#[test]
fn what_is_not_finite_is_a_problem_of_its_key_and_not_an_unset_key() {
    let unset = load_training("").unwrap();
    assert_eq!(unset.clip_norm, None);
    for (text, problem) in [
        ("clip_norm = nan", "clip_norm = nan: no key takes nan"),
        ("clip_norm = -inf", "clip_norm = -inf: no key takes nan"),
        ("seed = inf", "seed = inf: no key takes nan"),
        ("loss.weight = nan", "loss.weight = nan: no key takes nan"),
        ("loss.temperature = +nan", "loss.temperature = nan: no key"),
    ] {
        let error = load_training(text).unwrap_err();
        assert!(error.contains("1 problem in"), "{error}");
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
    let error = load_training("clip_norm = nan\nloss.weight = inf\ntypo = 1").unwrap_err();
    assert!(error.contains("3 problems"), "{error}");
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
    let error = load("# A comment\nmode = slow", &[], &[]).unwrap_err();
    assert!(error.contains("cannot read the configuration"), "{error}");
    assert!(error.contains("line 2, column 8"), "{error}");
    let layers = Layers {
        file: Some("/nowhere/x.toml".into()),
        ..Layers::shipped(SHIPPED)
    };
    let error = layers.load::<Example>().unwrap_err().to_string();
    assert!(error.contains("/nowhere/x.toml"), "{error}");
}

#[test]
fn settings_that_name_no_possible_key_are_all_refused_by_name() {
    let environment = [("GRPC__", "1"), ("GRPC__PRT", "1"), ("GRPC__PORT", "x")];
    let overrides = ["grpc..port=1", "name", "phases[1].epochs=1"];
    let error = load("", &environment, &overrides).unwrap_err();
    for part in [
        "6 problems",
        "X__GRPC__: a part of the key is empty",
        "--set grpc..port=1: a part of the key is empty",
        "--set name: has no `=`; give key.path=value",
        "--set phases[1].epochs=1: [1] is outside a list of 0",
        "grpc.prt = 1: unknown field `prt`",
        "grpc.port = x: invalid type: string \"x\", expected u16",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn problems_inside_what_was_typed_are_reported_beside_others() {
    let overrides = [
        "grpc={ port = 70000, prt = 1 }",
        "mode=slow",
        "grpc.workers=0",
    ];
    let error = load("", &[], &overrides).unwrap_err();
    for part in [
        "grpc.port = 70000",
        "prt",
        "mode = slow",
        "grpc.workers = 0",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let error = load(
        "[[phases]]\nepochs = 1",
        &[],
        &["phases[0]={ epochs = -1 }"],
    )
    .unwrap_err();
    assert!(
        error.contains("phases[0].epochs = { epochs = -1 }: "),
        "{error}"
    );
}

#[test]
fn flags_with_types_of_their_own_win_and_are_validated() {
    let layers = Layers {
        overrides: vec!["grpc.workers=3".into()],
        ..Layers::shipped(SHIPPED)
    };
    let config: Example = layers
        .load_with(|config: &mut Example| config.grpc.workers = 7)
        .unwrap();
    assert_eq!(config.grpc.workers, 7);
    let refused = layers.load_with(|config: &mut Example| config.grpc.workers = 0);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("grpc.workers = 0")
    );
}

#[test]
fn names_with_capitals_and_dots_are_names_in_files_too() {
    #[derive(Debug, Deserialize)]
    struct Named {
        models: std::collections::BTreeMap<String, usize>,
    }
    impl Validate for Named {
        const NAMED_TABLES: &'static [&'static str] = &["models"];
        fn validate(&self, _: &mut Problems) {}
    }
    let variable = |key: &str, value: &str| Variable {
        name: format!("X__{key}").into(),
        key: key.into(),
        value: value.into(),
    };
    let layers = Layers {
        environment: vec![
            variable("MODELS__ResNet8", "2"),
            variable("MODELS__v1.0", "3"),
        ],
        overrides: vec!["models.\"v2.0\"=4".into()],
        ..Layers::shipped("[models]")
    };
    let text = "[models]\nResNet8 = 1\nresnet8 = 9\n\"v2.0\" = 1\n\"A.b\" = 5";
    let named: Named = layers.load_text(text).unwrap();
    let expected = [
        ("A.b", 5),
        ("ResNet8", 2),
        ("resnet8", 9),
        ("v1.0", 3),
        ("v2.0", 4),
    ];
    let found: Vec<_> = named
        .models
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    assert_eq!(found, expected);
}
