//! Layered configuration: shipped defaults ← file ← environment ← flags, with every error at once.

use std::path::{Path, PathBuf};

use ::config::{Config, File, FileFormat};
use serde::de::DeserializeOwned;
use serde_json::Value;

mod problems;
mod tree;

pub use problems::{ConfigError, ConfigProblem, Problems};
use tree::KeyPath;

/// Exit code for a bad configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_CODE: u8 = 64;

/// Where a configuration comes from, lowest layer first.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The shipped file's text, compiled in.
    pub shipped: &'static str,
    /// A TOML file of the user's.
    pub file: Option<PathBuf>,
    /// `PREFIX__KEY__PATH=value` of the process environment.
    pub environment: Vec<(String, String)>,
    /// `key.path=value`, from `--set`.
    pub overrides: Vec<String>,
}

/// Rules that types alone cannot express.
pub trait Validate {
    /// Adds everything that is wrong with `self` to `problems`.
    fn validate(&self, problems: &mut Problems);
}

/// Variables of the process environment that begin with `prefix__`, as `(key.path, value)`.
pub fn environment(prefix: &str) -> Vec<(String, String)> {
    let prefix = format!("{prefix}__");
    let mut found: Vec<_> = std::env::vars()
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(&prefix)?;
            Some((path.to_lowercase().replace("__", "."), value))
        })
        .collect();
    found.sort();
    found
}

impl Layers {
    /// Merges the layers and reads `T` from them.
    ///
    /// A value of the environment or of a flag is read as TOML where it is TOML (`8`, `true`,
    /// `["a", "b"]`), as text where it is not.
    ///
    /// # Errors
    /// Every problem found, in one error: what [`Validate`] objects to, unknown keys, wrong types
    /// and values that are not allowed, each with its key and value; or the one reason why a layer
    /// could not be read at all.
    pub fn load<T: DeserializeOwned + Validate>(&self) -> Result<T, ConfigError> {
        let text = self.file.as_deref().map(read_file).transpose()?;
        self.load_text(text.as_deref().unwrap_or_default())
    }

    /// As [`load`](Self::load), with `text` as the content of the file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_text<T: DeserializeOwned + Validate>(&self, text: &str) -> Result<T, ConfigError> {
        let shipped = read(Config::builder().add_source(toml(self.shipped)), None)?;
        let merged = self.merge(text)?;
        let (value, mut problems) = read_tolerantly::<T>(merged, &shipped);
        if let Some(value) = value {
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

    fn merge(&self, text: &str) -> Result<Value, ConfigError> {
        let mut builder = Config::builder()
            .add_source(toml(self.shipped))
            .add_source(toml(text));
        let flags = self.overrides.iter().map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        });
        for (key, value) in self.environment.iter().cloned().chain(flags) {
            let refused = |error: ::config::ConfigError| ConfigError::Override {
                key: key.clone(),
                reason: error.to_string(),
            };
            builder = builder
                .set_override(&key, override_value(&value))
                .map_err(refused)?;
        }
        read(builder, self.file.as_deref())
    }
}

/// `text` as TOML where it is TOML, else as a string.
fn override_value(text: &str) -> ::config::Value {
    let parsed = Config::builder()
        .add_source(toml(&format!("value = {text}")))
        .build()
        .and_then(|config| config.get::<::config::Value>("value"));
    parsed.unwrap_or_else(|_| text.into())
}

fn toml(text: &str) -> File<::config::FileSourceString, FileFormat> {
    File::from_str(text, FileFormat::Toml)
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        file: path.to_owned(),
        reason: error.to_string(),
    })
}

fn read(
    builder: ::config::ConfigBuilder<::config::builder::DefaultState>,
    file: Option<&Path>,
) -> Result<Value, ConfigError> {
    builder
        .build()
        .and_then(Config::try_deserialize)
        .map_err(|error| ConfigError::Unreadable {
            file: file.unwrap_or(Path::new("(shipped defaults)")).to_owned(),
            reason: error.to_string(),
        })
}

/// Reads `T`, and where serde stops at an error, notes it, puts the shipped default in its place
/// (or takes the key away) and reads again: so that one run reports every error.
fn read_tolerantly<T: DeserializeOwned>(
    mut value: Value,
    shipped: &Value,
) -> (Option<T>, Problems) {
    let mut problems = Problems::default();
    loop {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(read) => return (Some(read), problems),
            Err(error) => error,
        };
        let path = KeyPath::of(error.path());
        let problem = ConfigProblem {
            key: path.to_string(),
            value: path.get(&value).map(tree::shorten),
            message: error.inner().to_string(),
        };
        // A key that an earlier repair took away is missed now: no news to the user.
        let repaired_before = !problems.is_empty() && problem.message.starts_with("missing field");
        if !repaired_before || !problems.any_below(&problem.key) {
            problems.push(problem);
        }
        if !path.repair(&mut value, shipped) {
            return (None, problems);
        }
    }
}

#[cfg(test)]
mod tests;
