//! Problems of a configuration.

use std::{fmt, ops::RangeInclusive, path::PathBuf};

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Dotted path, `phases[0].epochs`; empty for the whole.
    pub key: String,
    /// The value of the key, if it has one.
    pub value: Option<String>,
    /// The problem and the allowed values.
    pub message: String,
}

/// All problems of a configuration, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<ConfigProblem>);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer cannot be read or is not TOML.
    #[error("cannot read the configuration {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        reason: String,
    },
    /// Keys or values are wrong.
    #[error("{}{problems}", heading(file.as_ref(), problems))]
    Invalid {
        /// The user's file, if there is one.
        file: Option<PathBuf>,
        /// The problems.
        problems: Problems,
    },
}

impl Problems {
    /// Adds a problem of `key`, which has `value`; `message` says what is allowed.
    pub fn add(&mut self, key: impl Into<String>, value: impl fmt::Display, message: &str) {
        self.push(ConfigProblem {
            key: key.into(),
            value: Some(value.to_string()),
            message: message.to_owned(),
        });
    }

    /// Adds a problem with `key` unless `holds`.
    pub fn require(&mut self, holds: bool, key: &str, value: impl fmt::Display, message: &str) {
        if !holds {
            self.add(key, value, message);
        }
    }

    /// Adds a problem with `key` unless `value` lies in `range`.
    pub fn require_within<T: PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        let message = format!("must be from {} to {}", range.start(), range.end());
        self.require(range.contains(&value), key, value, &message);
    }

    /// Adds a problem with `key` unless `value` is above 0 and finite.
    pub fn require_positive(&mut self, key: &str, value: f64) {
        let fits = value.is_finite() && value > 0.0;
        self.require(fits, key, value, "must be above 0");
    }

    /// Whether there are no problems.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigProblem> {
        self.0.iter()
    }

    pub(super) fn push(&mut self, problem: ConfigProblem) {
        self.0.push(problem);
    }

    /// Adds the problems whose key has none yet.
    pub(super) fn extend_new(&mut self, others: Self) {
        for other in others.0 {
            if !self.0.iter().any(|known| known.key == other.key) {
                self.0.push(other);
            }
        }
    }

    /// Whether a key below `key` has a problem.
    pub(super) fn any_below(&self, key: &str) -> bool {
        self.0.iter().any(|known| match key {
            "" => true,
            _ => known.key.starts_with(key),
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.value) {
            ("", _) => write!(f, "{}", self.message),
            (key, Some(value)) => write!(f, "{key} = {value}: {}", self.message),
            (key, None) => write!(f, "{key}: {}", self.message),
        }
    }
}

fn heading(file: Option<&PathBuf>, problems: &Problems) -> String {
    let count = match problems.0.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    match file {
        Some(file) => format!("{count} in the configuration ({}):", file.display()),
        None => format!("{count} in the configuration:"),
    }
}
