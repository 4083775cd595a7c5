//! The runs of a sweep: every combination of values, with every seed.

use common::digest::Sha256;
use toml::Value;

use crate::{CliError, run_config::RunConfigText};

/// Most runs of a sweep; by default, a trainer lets as many wait, and remembers as many that have ended.
const MOST_RUNS: usize = 100;
/// Longest readable part of a run's name. A trainer takes names of 64 bytes.
const LONGEST_PART: usize = 55;

/// `--over KEY=VALUE,VALUE…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Over {
    key: String,
    values: Vec<String>,
}

/// One combination of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// For readers: `loss.temperature=2`.
    pub label: String,
    /// What `--set` would take.
    overrides: Vec<String>,
}

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedRun {
    /// The same for the same configuration, so that an interrupted sweep finds its runs again.
    pub name: String,
    /// Position of its setting.
    pub setting: usize,
    pub config: RunConfigText,
}

impl Over {
    /// # Errors
    /// If `text` is not `KEY=VALUE,VALUE…`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (key, values) = text.split_once('=').ok_or("give KEY=VALUE,VALUE…")?;
        let values = split(values);
        if key.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err("give KEY=VALUE,VALUE…".to_owned());
        }
        Ok(Self {
            key: key.trim().to_owned(),
            values,
        })
    }

    /// The keys of the configuration that the key stands for: one below `loss`, `optimizer` or `schedule` stands for
    /// it in every phase that has it.
    fn keys(&self, config: &RunConfigText) -> Result<Vec<String>, CliError> {
        let table = self.key.split('.').next().unwrap_or_default();
        if !["loss", "optimizer", "schedule"].contains(&table) {
            return Ok(vec![self.key.clone()]);
        }
        let phases = config.table().get("phases").and_then(Value::as_array);
        let has_key = |phase: &Value| {
            let mut steps = self.key.split('.');
            steps
                .try_fold(phase, |value, step| value.get(step))
                .is_some()
        };
        let phases = phases.into_iter().flatten().enumerate();
        let keys = phases.filter(|(_, phase)| has_key(phase));
        let keys: Vec<_> = keys
            .map(|(index, _)| format!("phases[{index}].{}", self.key))
            .collect();
        if keys.is_empty() {
            return Err(CliError::Usage(format!(
                "--over {}: no phase of the configuration has this key; give it a value there, or name one phase: \
                 phases[0].{}",
                self.key, self.key
            )));
        }
        Ok(keys)
    }
}

/// Every combination of the values, the last key changing first; one setting without values if there are none.
///
/// # Errors
/// If a key stands for nothing.
pub(super) fn settings(overs: &[Over], config: &RunConfigText) -> Result<Vec<Setting>, CliError> {
    let mut settings = vec![Setting {
        label: String::new(),
        overrides: Vec::new(),
    }];
    for over in overs {
        let keys = over.keys(config)?;
        let with = |setting: &Setting, value: &String| {
            let mut setting = setting.clone();
            let separator = if setting.label.is_empty() { "" } else { ", " };
            setting.label += &format!("{separator}{}={value}", over.key);
            let overrides = keys.iter().map(|key| format!("{key}={value}"));
            setting.overrides.extend(overrides);
            setting
        };
        settings = settings
            .iter()
            .flat_map(|setting| over.values.iter().map(move |value| with(setting, value)))
            .collect();
    }
    Ok(settings)
}

/// The runs of all settings; each setting has `seeds` runs, with the seeds from `first_seed` on.
///
/// # Errors
/// If there are too many.
pub(super) fn runs(
    name: &str,
    config: &RunConfigText,
    settings: &[Setting],
    first_seed: u64,
    seeds: u64,
) -> Result<Vec<PlannedRun>, CliError> {
    let count = (settings.len() as u64).saturating_mul(seeds);
    if count > MOST_RUNS as u64 {
        return Err(CliError::Usage(format!(
            "{} settings with {seeds} seeds are {count} runs; a sweep has at most {MOST_RUNS}",
            settings.len()
        )));
    }
    let mut runs = Vec::new();
    for (position, setting) in settings.iter().enumerate() {
        for seed in (first_seed..).take(seeds as usize) {
            let mut config = config.clone();
            for text in &setting.overrides {
                config.add_override(text.into())?;
            }
            config.add_override(format!("seed={seed}").into())?;
            runs.push(PlannedRun {
                name: run_name(name, setting, seed, &config),
                setting: position,
                config,
            });
        }
    }
    Ok(runs)
}

/// A name that says what the run is, and ends with the digest of its configuration.
fn run_name(name: &str, setting: &Setting, seed: u64, config: &RunConfigText) -> String {
    let text = format!("{}\n{}", config.to_toml(), config.overrides().join("\n"));
    let digest = Sha256::of(text.as_bytes());
    let readable = format!("{name} {} seed {seed}", setting.label);
    let words = readable.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let readable: String = words.join("-").chars().take(LONGEST_PART).collect();
    format!(
        "{}-{:.8}",
        readable.trim_start_matches('.'),
        digest.as_str()
    )
}

/// The parts between commas that are outside of brackets and quotes.
fn split(values: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    let mut quote = None;
    for letter in values.chars() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(letter),
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        // Holds: there is always a last part.
        parts.last_mut().expect("there is a part").push(letter);
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[[phases]]\nloss = { kind = \"kd\", temperature = 2.0 }\n\
                          [[phases]]\nloss = { kind = \"cross_entropy\" }\n\
                          [[phases]]\nloss = { kind = \"kd\", temperature = 1.0 }";

    fn overs(texts: &[&str]) -> Vec<Over> {
        texts
            .iter()
            .map(|text| Over::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn values_are_separated_by_commas_outside_of_brackets_and_quotes() {
        for (text, expected) in [
            ("2, 4,8", &["2", "4", "8"][..]),
            ("[24, 48],[12, 24]", &["[24, 48]", "[12, 24]"]),
            ("\"a,b\",'c'", &["\"a,b\"", "'c'"]),
            (
                "{ kind = \"kd\", alpha = 0.5 }",
                &["{ kind = \"kd\", alpha = 0.5 }"],
            ),
        ] {
            assert_eq!(split(text), expected);
        }
        for wrong in ["temperature", "=1", "t=", "t=1,,2"] {
            assert!(Over::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_of_phases_stands_for_every_phase_that_has_it() {
        let config = RunConfigText::parse(CONFIG).unwrap();
        let found = settings(&overs(&["loss.temperature=2,4", "threads=1"]), &config).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].label, "loss.temperature=4, threads=1");
        assert_eq!(
            found[1].overrides,
            [
                "phases[0].loss.temperature=4",
                "phases[2].loss.temperature=4",
                "threads=1"
            ]
        );
        let error = settings(&overs(&["loss.beta=1"]), &config).unwrap_err();
        assert!(error.to_string().contains("phases[0].loss.beta"), "{error}");
    }

    #[test]
    fn every_setting_has_every_seed_and_names_follow_from_the_configuration() {
        let config = RunConfigText::parse(CONFIG).unwrap();
        let settings = settings(&overs(&["loss.temperature=2,4"]), &config).unwrap();
        let planned = runs("my student", &config, &settings, 5, 2).unwrap();
        let names: Vec<&str> = planned.iter().map(|run| &*run.name).collect();
        assert!(
            names[0].starts_with("my-student-loss.temperature-2-seed-5-"),
            "{names:?}"
        );
        assert!(
            names[3].starts_with("my-student-loss.temperature-4-seed-6-"),
            "{names:?}"
        );
        let settings_of: Vec<usize> = planned.iter().map(|run| run.setting).collect();
        assert_eq!(settings_of, [0, 0, 1, 1]);
        assert_eq!(
            planned,
            runs("my student", &config, &settings, 5, 2).unwrap()
        );
        let mut other = config.clone();
        other.set("threads", 4).unwrap();
        let other = runs("my student", &other, &settings, 5, 2).unwrap();
        assert_ne!(planned[0].name, other[0].name);
        assert!(runs("s", &config, &settings, 1, 51).is_err());
    }
}
