//! Whether a run may resume from a checkpoint.

use std::borrow::Cow;

use toml::{Table, Value};

use super::checkpoint::Circumstances;
use crate::config::RunConfig;

/// How a resumed run may differ from the one that wrote the checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResumePolicy {
    /// Only in settings that do not affect the bits: the result equals that of an uninterrupted run.
    #[default]
    SameBits,
    /// In threads, device, precision and numerics; the run is marked as not bit-reproducible.
    OtherBits,
}

/// Why a run cannot resume from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// A key that decides the bits has another value.
    #[error(
        "cannot resume from the checkpoint: {key} was {before} and is now {now}; put it back, or \
         choose another output folder"
    )]
    ConfigChanged {
        /// Key of the configuration.
        key: String,
        /// The value in the interrupted run.
        before: String,
        /// The current value.
        now: String,
    },
    /// Thread count or numerics differ, which changes the bits.
    #[error(
        "cannot resume from the checkpoint with the same bits: it was made with {before}, here are \
         {now}; make them alike, or give --allow-other-bits and the run is marked as not \
         bit-reproducible"
    )]
    OtherCircumstances {
        /// Thread count and numerics of the interrupted run.
        before: String,
        /// The current ones.
        now: String,
    },
    /// The images are not those of the interrupted run.
    #[error(
        "cannot resume from the checkpoint: the training images have fingerprint {now}, those of \
         the interrupted run had {before}"
    )]
    OtherData {
        /// Fingerprint in the checkpoint.
        before: String,
        /// Fingerprint now.
        now: String,
    },
    /// The initial weights are not those of the interrupted run.
    #[error(
        "cannot resume from the checkpoint: the initial weights are {now}, those of the interrupted run were \
         {before}"
    )]
    OtherInitialWeights {
        /// The file's digest in the checkpoint.
        before: String,
        /// The file's digest now.
        now: String,
    },
    /// The teachers are not those of the interrupted run.
    #[error(
        "cannot resume from the checkpoint: the teachers{} are {now}, those of the interrupted run \
         were {before}", called(name.as_deref())
    )]
    OtherTeacher {
        /// The name of the teacher, if it has one.
        name: Option<String>,
        /// Model and numerics in the checkpoint.
        before: String,
        /// Model and numerics now.
        now: String,
    },
}

fn called(teacher: Option<&str>) -> String {
    teacher.map_or_else(String::new, |name| format!(" called {name}"))
}

/// Keys, and tables with all keys below them, that do not affect the bits: checkpoint intervals, paths,
/// addresses and time-outs.
const MAY_CHANGE: [&str; 21] = [
    "checkpoints",
    // The checkpoint holds the fingerprint of the data.
    "data.path",
    // Except what decides the ranges of quantization-aware phases: see `other_calibration`.
    "export",
    // The checkpoint holds the digest of the file.
    "initial_weights",
    "publish",
    // A recording gives the same bits as its teacher.
    "soft_targets.cache",
    "soft_targets.fallback",
    "soft_targets.folder",
    "soft_targets.max_cache_bytes",
    "soft_targets.patience_seconds",
    "soft_targets.samples_per_shard",
    // The checkpoint holds the identity of the teachers. The keys of `teacher` are also those of each `teachers.NAME`.
    "soft_targets.teachers",
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

/// Keys that [`ResumePolicy::OtherBits`] also lets differ.
const DECIDE_ROUNDING_ALONE: [&str; 3] = ["device", "precision", "threads"];

/// Compares the configuration of the interrupted run with that of the resumed one.
///
/// # Errors
/// [`ResumeError::ConfigChanged`] with the first key that may not differ.
pub(super) fn check_config(
    before: &RunConfig,
    now: &RunConfig,
    policy: ResumePolicy,
) -> Result<(), ResumeError> {
    match first_difference(before, now, policy) {
        None => Ok(()),
        Some((key, before, now)) => Err(ResumeError::ConfigChanged { key, before, now }),
    }
}

/// The first key that may not differ but does, with both values.
pub(super) fn first_difference(
    before: &RunConfig,
    now: &RunConfig,
    policy: ResumePolicy,
) -> Option<(String, String, String)> {
    let value = |config: &RunConfig| config.to_toml().parse::<Table>().map(Value::Table).ok();
    let difference = difference("", value(before).as_ref(), value(now).as_ref(), policy);
    difference.or_else(|| other_calibration(before, now))
}

/// The number of calibration samples with both values, if it differs and a phase is quantization-aware: its ranges depend
/// on them.
fn other_calibration(before: &RunConfig, now: &RunConfig) -> Option<(String, String, String)> {
    let aware = before.phases.iter().any(|phase| phase.quantization_aware);
    let samples = |config: &RunConfig| {
        config
            .export
            .int8
            .map_or(0, |int8| int8.calibration_samples)
    };
    let (before, now) = (samples(before), samples(now));
    let key = "export.int8.calibration_samples".to_owned();
    (aware && before != now).then(|| (key, before.to_string(), now.to_string()))
}

/// Compares data, initial weights, threads and numerics. Returns `Ok(false)` if threads or numerics differ and
/// the policy allows it.
///
/// # Errors
/// [`ResumeError::OtherData`], [`ResumeError::OtherInitialWeights`], [`ResumeError::OtherCircumstances`].
pub(super) fn check_circumstances(
    before: &Circumstances,
    now: &Circumstances,
    policy: ResumePolicy,
) -> Result<bool, ResumeError> {
    if before.dataset != now.dataset {
        return Err(ResumeError::OtherData {
            before: before.dataset.clone(),
            now: now.dataset.clone(),
        });
    }
    if before.initial_weights != now.initial_weights {
        let describe = |circumstances: &Circumstances| match &circumstances.initial_weights {
            Some(sha256) => format!("a file with SHA-256 {sha256}"),
            None => "random".to_owned(),
        };
        return Err(ResumeError::OtherInitialWeights {
            before: describe(before),
            now: describe(now),
        });
    }
    let describe = |circumstances: &Circumstances| {
        let Circumstances {
            threads,
            numerics,
            probe_sha256,
            ..
        } = circumstances;
        format!("{threads} threads, {numerics} (probe {probe_sha256})")
    };
    match (before == now, policy) {
        (true, _) => Ok(true),
        (false, ResumePolicy::OtherBits) => Ok(false),
        (false, ResumePolicy::SameBits) => Err(ResumeError::OtherCircumstances {
            before: describe(before),
            now: describe(now),
        }),
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

/// The first key below `key` that may not differ but does, with both values.
fn difference(
    key: &str,
    before: Option<&Value>,
    now: Option<&Value>,
    policy: ResumePolicy,
) -> Option<(String, String, String)> {
    let may_change = MAY_CHANGE.contains(&&*of_any_teacher(key))
        || (policy == ResumePolicy::OtherBits && DECIDE_ROUNDING_ALONE.contains(&key));
    if before == now || may_change {
        return None;
    }
    let child = |name: &str| match key {
        "" => name.to_owned(),
        key => format!("{key}.{name}"),
    };
    match (before, now) {
        (Some(Value::Table(before)), Some(Value::Table(now))) => {
            let added = now.keys().filter(|name| !before.contains_key(*name));
            before
                .keys()
                .chain(added)
                .find_map(|name| difference(&child(name), before.get(name), now.get(name), policy))
        }
        (Some(Value::Array(before)), Some(Value::Array(now))) if before.len() == now.len() => {
            let elements = before.iter().zip(now).enumerate();
            elements.into_iter().find_map(|(index, (before, now))| {
                difference(&format!("{key}[{index}]"), Some(before), Some(now), policy)
            })
        }
        // A removed or added table may differ if all of its keys may.
        (Some(Value::Table(table)), None) => table
            .iter()
            .find_map(|(name, value)| difference(&child(name), Some(value), None, policy)),
        (None, Some(Value::Table(table))) => table
            .iter()
            .find_map(|(name, value)| difference(&child(name), None, Some(value), policy)),
        (before, now) => {
            let text = |value: Option<&Value>| match value {
                Some(value) => value.to_string(),
                None => "(not set)".to_owned(),
            };
            Some((key.to_owned(), text(before), text(now)))
        }
    }
}

#[cfg(test)]
mod tests {
    use common::digest::Sha256;
    use test_support::run_toml::{PhaseToml, RunToml};

    use super::*;

    fn check(change: (&str, &str), policy: ResumePolicy) -> Result<(), ResumeError> {
        let toml = RunToml {
            tables: "[teacher]\nendpoints = [\"a:1\"]\n\
                     [soft_targets]\nfolder = \"targets\"\nviews = 2",
            ..RunToml::default()
        };
        let toml = toml.to_string();
        let before = RunConfig::from_toml(&toml).unwrap();
        assert!(toml.contains(change.0));
        let now = RunConfig::from_toml(&toml.replacen(change.0, change.1, 1)).unwrap();
        check_config(&before, &now, policy)
    }

    #[test]
    fn the_first_key_that_decides_bits_is_named_with_both_values() {
        for (change, parts) in [
            (("epochs = 1", "epochs = 2"), ["phases[0].epochs", "1", "2"]),
            (("[network]", "seed = 7\n[network]"), ["seed", "1", "7"]),
            (
                ("[network]", "threads = 7\n[network]"),
                ["threads", "2", "7"],
            ),
            (
                ("[network]", "device = \"cuda:1\"\n[network]"),
                ["device", "(not set)", "cuda:1"],
            ),
            (
                ("widths = [8]", "widths = [8]\ndropout = 0.5"),
                ["network.dropout", "0", "0.5"],
            ),
            (
                ("endpoints", "numerics = \"any\"\nendpoints"),
                ["teacher.numerics", "same", "any"],
            ),
        ] {
            let error = check(change, ResumePolicy::SameBits)
                .unwrap_err()
                .to_string();
            for part in parts {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        }
    }

    #[test]
    fn where_things_are_and_how_long_to_wait_may_change() {
        for change in [
            ("a:1", "b:2"),
            ("endpoints", "wait_timeout_seconds = 7\nendpoints"),
            ("views = 2", "views = 2\nfallback = \"recorded\""),
            ("[network]", "checkpoints = { keep_last = 9 }\n[network]"),
            (
                "[network]",
                "initial_weights = { path = \"w.safetensors\" }\n[network]",
            ),
            (
                "[network]",
                "publish = { endpoint = \"a:1\", model = \"m\" }\n[network]",
            ),
        ] {
            check(change, ResumePolicy::SameBits).unwrap();
        }
        for change in ["threads = 7", "device = \"cuda:1\""] {
            let change = format!("{change}\n[network]");
            check(("[network]", &change), ResumePolicy::OtherBits).unwrap();
        }
    }

    #[test]
    fn the_calibration_samples_of_a_quantization_aware_phase_may_not_change() {
        let config = |keys: &str, samples: usize| {
            let tables = format!("[export]\nint8 = {{ calibration_samples = {samples} }}");
            let toml = RunToml {
                tables: &tables,
                ..RunToml::default()
            };
            let toml = toml
                .to_string()
                .replace("epochs = 1", &format!("epochs = 1\n{keys}"));
            RunConfig::from_toml(&toml).unwrap()
        };
        let check = |keys: &str, samples| {
            let (before, now) = (config(keys, 10), config(keys, samples));
            check_config(&before, &now, ResumePolicy::OtherBits)
        };
        let aware = "quantization_aware = true";
        check("", 20).unwrap();
        check(aware, 10).unwrap();
        let error = check(aware, 20).unwrap_err().to_string();
        let expected = "export.int8.calibration_samples was 10 and is now 20";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn named_teachers_may_be_elsewhere_but_not_weigh_more_or_get_other_samples() {
        let loss = "[{ kind = \"kd\", temperature = 2, teacher = \"both\" }, \
                    { kind = \"kd\", temperature = 2, teacher = \"r\" }]";
        let toml = RunToml {
            phases: &[PhaseToml {
                loss,
                ..PhaseToml::default()
            }],
            tables: "[teachers.big]\nendpoints = [\"a:1\"]\n[teachers.wide]\nendpoints = [\"b:1\"]\n\
                     [ensembles.both]\nteachers = { big = 0.7, wide = 0.3 }\n\
                     [routes.r]\nby = \"position\"\ndefault = \"wide\"\nteachers = { big = [\"0..5\"] }",
            ..RunToml::default()
        };
        let toml = toml.to_string();
        let before = RunConfig::from_toml(&toml).unwrap();
        let check = |from: &str, to: &str| {
            assert!(toml.contains(from));
            let now = RunConfig::from_toml(&toml.replacen(from, to, 1)).unwrap();
            check_config(&before, &now, ResumePolicy::SameBits)
        };
        check("b:1", "c:1").unwrap();
        check("[ensembles", "prefetch = 2\n[ensembles").unwrap();
        for (from, to, part) in [
            ("0.3", "0.4", "ensembles.both.teachers.wide was 0.3"),
            (
                "[ensembles",
                "numerics = \"any\"\n[ensembles",
                "teachers.wide.numerics was",
            ),
            (
                "[ensembles.both]",
                "[ensembles.both]\nof = \"logits\"",
                "ensembles.both.of was (not set)",
            ),
            ("0..5", "0..6", "routes.r.teachers.big[0] was"),
            (
                "[\"0..5\"]",
                "[\"0..5\", \"7..\"]",
                "routes.r.teachers.big was",
            ),
            (
                "by = \"position\"\ndefault = \"wide\"\nteachers = { big = [\"0..5\"] }",
                "by = \"class\"\ndefault = \"wide\"\nteachers = { big = [\"Bag\"] }",
                "routes.r.by was",
            ),
        ] {
            let error = check(from, to).unwrap_err().to_string();
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn other_numerics_are_refused_or_reported_and_other_inputs_always_refused() {
        let before = Circumstances {
            threads: 1,
            numerics: "f32 on cpu (avx2)".to_owned(),
            probe_sha256: "p".to_owned(),
            dataset: "d".to_owned(),
            initial_weights: Some(Sha256::of(b"w")),
        };
        let check = |now: &Circumstances, policy| check_circumstances(&before, now, policy);
        assert!(check(&before, ResumePolicy::SameBits).unwrap());
        let other = Circumstances {
            threads: 2,
            ..before.clone()
        };
        let error = check(&other, ResumePolicy::SameBits)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("1 threads") && error.contains("2 threads"),
            "{error}"
        );
        assert!(!check(&other, ResumePolicy::OtherBits).unwrap());
        let other = Circumstances {
            dataset: "e".to_owned(),
            ..before.clone()
        };
        assert!(check(&other, ResumePolicy::OtherBits).is_err());
        let other = Circumstances {
            initial_weights: None,
            ..before.clone()
        };
        let error = check(&other, ResumePolicy::OtherBits).unwrap_err();
        assert!(
            error.to_string().contains("the initial weights are random"),
            "{error}"
        );
    }
}
