//! The settings in which runs differ.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use toml::{Table, Value};

use crate::run_folder::{RunFolder, RunManifest};

/// A setting in which runs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// The key in the configuration, or what else differs.
    pub key: String,
    /// One value per run.
    pub values: Vec<String>,
}

/// Keys, and tables with all keys below them, that do not affect the student: addresses, time-outs, what is kept. The keys
/// of `teacher` are also those of each `teachers.NAME`.
const WITHOUT_EFFECT: [&str; 18] = [
    "checkpoints",
    "export",
    "publish",
    "soft_targets.cache",
    "soft_targets.fallback",
    "soft_targets.folder",
    "soft_targets.max_cache_bytes",
    "soft_targets.patience_seconds",
    "soft_targets.samples_per_shard",
    "teacher.answer_timeout_seconds",
    "teacher.batches",
    "teacher.endpoints",
    "teacher.name_server",
    "teacher.prefetch",
    "teacher.tls",
    "teacher.token_file",
    "teacher.token_in_plain_text",
    "teacher.wait_timeout_seconds",
];

/// Names one of a run's inputs.
type Input = fn(&RunManifest) -> Option<String>;

/// The settings in which `runs` differ, by key, and then the inputs that no key names.
pub(super) fn differences(runs: &[RunFolder]) -> Vec<Difference> {
    let configs: Vec<_> = runs.iter().map(|run| values(&run.config)).collect();
    let keys: BTreeSet<&String> = configs.iter().flat_map(BTreeMap::keys).collect();
    let settings = keys.into_iter().filter_map(|key| {
        let values: Vec<_> = configs.iter().map(|config| config.get(key)).collect();
        let differ = values.iter().any(|value| *value != values[0]);
        differ.then(|| Difference::new(key, values.iter().copied()))
    });
    let inputs: [(&str, Input); 2] = [
        ("teacher's model id", |run| {
            run.of_teachers(|teacher| teacher.model_id.clone())
        }),
        ("data's fingerprint", |run| Some(run.dataset.clone())),
    ];
    let inputs = inputs.into_iter().filter_map(|(name, input)| {
        let of_run = |run: &'_ RunFolder| run.manifest.as_ref().and_then(input);
        // An unfinished run does not name its inputs yet.
        let values: Vec<Option<String>> = runs.iter().map(of_run).collect();
        let known: BTreeSet<&String> = values.iter().flatten().collect();
        (known.len() > 1).then(|| Difference::new(name, values.iter().map(Option::as_ref)))
    });
    settings.chain(inputs).collect()
}

impl Difference {
    /// Digests are recognized by their first digits.
    fn new<'v>(key: &str, values: impl Iterator<Item = Option<&'v String>>) -> Self {
        let shown = |value: Option<&String>| match value {
            Some(value) if is_digest(value) => format!("{value:.12}"),
            Some(value) => value.clone(),
            None => "–".to_owned(),
        };
        Self {
            key: key.to_owned(),
            values: values.map(shown).collect(),
        }
    }
}

/// The key of `[teacher]` for one of `[teachers.NAME]`; another key as it is.
fn of_any_teacher(key: &str) -> Cow<'_, str> {
    let named = key.strip_prefix("teachers.");
    match named.and_then(|named| named.split_once('.')) {
        Some((_, key)) => format!("teacher.{key}").into(),
        None => key.into(),
    }
}

fn is_digest(value: &str) -> bool {
    value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The values of a configuration by dotted key.
fn values(config: &Table) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (key, value) in config {
        collect(key.clone(), value, &mut values);
    }
    values
}

fn collect(key: String, value: &Value, values: &mut BTreeMap<String, String>) {
    if WITHOUT_EFFECT.contains(&&*of_any_teacher(&key)) {
        return;
    }
    match value {
        Value::Table(table) => {
            for (below, value) in table {
                collect(format!("{key}.{below}"), value, values);
            }
        }
        Value::Array(array) if array.iter().any(Value::is_table) => {
            for (index, value) in array.iter().enumerate() {
                collect(format!("{key}[{index}]"), value, values);
            }
        }
        Value::String(text) => {
            values.insert(key, text.clone());
        }
        value => {
            values.insert(key, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_named_teachers_are_left_out_too() {
        let config = "[teachers.big]\nendpoints = [\"a:1\"]\nencoding = \"f16\"\n\
                      [ensembles.both.teachers]\nbig = 0.5";
        let found = values(&config.parse().unwrap());
        let expected = [
            ("ensembles.both.teachers.big", "0.5"),
            ("teachers.big.encoding", "f16"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn keys_are_those_that_can_be_set_and_addresses_are_left_out() {
        let config = "seed = 1\n[teacher]\nendpoints = [\"a:1\"]\nencoding = \"f16\"\n\
                      [data]\nclass_names = [\"cat\", \"dog\"]\n[checkpoints]\nkeep_last = 2\n\
                      [[phases]]\nloss = { kind = \"kd\", alpha = 0.5 }";
        let found = values(&config.parse().unwrap());
        let expected = [
            ("data.class_names", "[\"cat\", \"dog\"]"),
            ("phases[0].loss.alpha", "0.5"),
            ("phases[0].loss.kind", "kd"),
            ("seed", "1"),
            ("teacher.encoding", "f16"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found, BTreeMap::from(expected));
    }
}
