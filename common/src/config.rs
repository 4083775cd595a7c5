//! Layered configuration: shipped defaults ← file ← environment ← flags. Reports all errors together.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

mod deserializer;
mod key_path;
mod problems;
mod settings;
mod tree;

use key_path::KeyPath;
pub use problems::{ConfigError, ConfigProblem, Problems};
pub use settings::{Variable, environment};
use tree::Node;

/// Exit code for a bad configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_CODE: u8 = 64;

/// The layers of a configuration, lowest first.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The shipped file's text, compiled in.
    pub shipped: &'static str,
    /// The user's TOML file.
    pub file: Option<PathBuf>,
    /// `PREFIX__KEY__PATH=value` of the process environment; see [`environment`].
    pub environment: Vec<Variable>,
    /// `key.path=value`, from `--set`.
    pub overrides: Vec<OsString>,
}

/// Whether `value` is the default of its type: for `skip_serializing_if`, so that a written configuration omits it.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Rules that types cannot express.
pub trait Validate {
    /// Top-level tables whose keys are names that users choose. In environment variables, these names keep
    /// their case.
    const NAMED_TABLES: &'static [&'static str] = &[];

    /// Adds all problems of `self` to `problems`.
    fn validate(&self, problems: &mut Problems);
}

impl Layers {
    /// The shipped defaults alone.
    pub fn shipped(shipped: &'static str) -> Self {
        Self {
            shipped,
            file: None,
            environment: Vec::new(),
            overrides: Vec::new(),
        }
    }

    /// Merges the layers and reads `T` from them. A table overrides single keys of the table below it; if both
    /// have a `kind`, and not the same, it replaces the table.
    ///
    /// The type of a key decides how a value of the environment or a flag is read. For a text key (string,
    /// path, address, enum) the value is the text as typed, or the content of a TOML string in quotes. For
    /// every other key the value is TOML (`8`, `true`, `["a", "b"]`, `{ latest = { num_versions = 2 } }`).
    ///
    /// # Errors
    /// All problems in one error, each with its key and value: violated rules of [`Validate`], unknown
    /// keys, wrong types and values that are not allowed. A file that cannot be read is the only problem
    /// reported.
    pub fn load<T: DeserializeOwned + Validate>(&self) -> Result<T, ConfigError> {
        self.load_with(|_| {})
    }

    /// Like [`load`](Self::load); `flags` then sets the values of command-line options that have types of their
    /// own, such as paths that are not UTF-8, before the validation.
    ///
    /// # Errors
    /// The errors of [`load`](Self::load).
    pub fn load_with<T: DeserializeOwned + Validate>(
        &self,
        flags: impl FnOnce(&mut T),
    ) -> Result<T, ConfigError> {
        let text = self.file.as_deref().map(read_file).transpose()?;
        self.read(text.as_deref().unwrap_or_default(), flags)
    }

    /// Like [`load`](Self::load), with `text` as the content of the file.
    ///
    /// # Errors
    /// The errors of [`load`](Self::load).
    pub fn load_text<T: DeserializeOwned + Validate>(&self, text: &str) -> Result<T, ConfigError> {
        self.read(text, |_| {})
    }

    fn read<T: DeserializeOwned + Validate>(
        &self,
        text: &str,
        flags: impl FnOnce(&mut T),
    ) -> Result<T, ConfigError> {
        let shipped = self.parse(self.shipped)?;
        let mut merged = shipped.clone();
        merged.merge(self.parse(text)?);
        let mut problems = Problems::default();
        self.apply_settings::<T>(&mut merged, &mut problems);
        let value = read_tolerantly::<T>(merged, &shipped, &mut problems);
        if let Some(mut value) = value {
            flags(&mut value);
            let mut found = Problems::default();
            value.validate(&mut found);
            problems.extend_new(found);
            if problems.is_empty() {
                return Ok(value);
            }
        }
        Err(ConfigError::Invalid {
            file: self.file.clone(),
            problems,
        })
    }

    fn parse(&self, text: &str) -> Result<Node, ConfigError> {
        Node::parse(text).map_err(|error| {
            let file = self.file.as_deref();
            ConfigError::Unreadable {
                file: file.unwrap_or(Path::new("(no file)")).to_owned(),
                reason: error.to_string(),
            }
        })
    }

    /// Applies the environment and then the overrides to `tree`.
    fn apply_settings<T: Validate>(&self, tree: &mut Node, problems: &mut Problems) {
        let variables = self.environment.iter();
        let variables: Vec<_> = variables
            .map(|variable| variable.apply(tree, T::NAMED_TABLES))
            .collect();
        let overrides = self.overrides.iter();
        let overrides = overrides.map(|text| settings::apply_override(text, tree));
        for refused in variables
            .into_iter()
            .chain(overrides)
            .filter_map(Result::err)
        {
            problems.push(refused);
        }
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        file: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Reads `T`. When serde stops at an error, records it, replaces the value by the shipped default (or removes
/// the key) and reads again, so that one run reports every error.
fn read_tolerantly<T: DeserializeOwned>(
    mut tree: Node,
    shipped: &Node,
    problems: &mut Problems,
) -> Option<T> {
    loop {
        let error = match serde_path_to_error::deserialize(tree.clone()) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let path = KeyPath::of(error.path());
        let problem = ConfigProblem {
            key: path.to_string(),
            value: tree.shown(&path),
            message: error.inner().to_string(),
        };
        // A key that an earlier repair removed is now missing, which is not a problem of the user's file.
        let repaired_before = !problems.is_empty() && problem.message.starts_with("missing field");
        if !repaired_before || !problems.any_below(&problem.key) {
            problems.push(problem);
        }
        if !tree.repair(&path, shipped) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests;
