//! A run's configuration as the trainer receives it: TOML with overrides.

use std::{ffi::OsString, path::Path};

use toml::{Table, Value};

use crate::CliError;

/// TOML for a trainer, which validates it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RunConfigText {
    table: Table,
    overrides: Vec<String>,
}

impl RunConfigText {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
        Self::parse(&text).map_err(|problem| {
            CliError::Usage(format!("{} is not TOML: {problem}", path.display()))
        })
    }

    /// Parses a text. The error gives the line of a syntax error.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table = text.parse::<Table>();
        let table = table.map_err(|error| error.to_string().trim_end().to_owned())?;
        Ok(Self {
            table,
            overrides: Vec::new(),
        })
    }

    /// Adds an override from `--set`, `key.path=value`. The trainer parses the value, because it knows the
    /// type of the key.
    pub(crate) fn add_override(&mut self, argument: OsString) -> Result<(), CliError> {
        let argument = argument.into_string().map_err(|argument| {
            CliError::Usage(format!(
                "--set {argument:?}: is not UTF-8; a configuration must be"
            ))
        })?;
        if !argument.contains('=') {
            let problem = format!("--set {argument}: no `=`; give key.path=value");
            return Err(CliError::Usage(problem));
        }
        self.overrides.push(argument);
        Ok(())
    }

    /// The overrides from `--set`.
    pub(crate) fn overrides(&self) -> &[String] {
        &self.overrides
    }

    /// Sets the value at a dotted path and creates missing tables on the way.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<(), String> {
        let mut steps: Vec<&str> = key.split('.').collect();
        if steps.iter().any(|step| step.is_empty()) {
            return Err("a part of the key is empty".to_owned());
        }
        let last = steps.pop().unwrap_or(key);
        let mut table = &mut self.table;
        for step in steps {
            let next = table
                .entry(step)
                .or_insert_with(|| Value::Table(Table::new()));
            table = next
                .as_table_mut()
                .ok_or_else(|| format!("`{step}` is not a table"))?;
        }
        table.insert(last.to_owned(), value.into());
        Ok(())
    }

    /// The values, without the overrides.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// The text to send.
    pub(crate) fn to_toml(&self) -> String {
        self.table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn values_override_the_text() {
        let mut config = RunConfigText::parse("seed = 1\n[data]\npath = 'a'").unwrap();
        config.set("seed", 2).unwrap();
        config.set("data.path", "b c").unwrap();
        config.set("teacher.endpoints", vec!["h:1", "h:2"]).unwrap();
        let again = RunConfigText::parse(&config.to_toml()).unwrap();
        assert_eq!(again, config);
        assert_eq!(config.table["seed"].as_integer(), Some(2));
        assert_eq!(config.table["data"]["path"].as_str(), Some("b c"));
        let endpoint = &config.table["teacher"]["endpoints"][1];
        assert_eq!(endpoint.as_str(), Some("h:2"));
        for (key, problem) in [
            ("a..b", "empty"),
            ("", "empty"),
            ("seed.x", "is not a table"),
        ] {
            assert!(config.set(key, 1).unwrap_err().contains(problem), "{key}");
        }
    }

    #[test]
    fn overrides_are_sent_as_they_were_typed() {
        let mut config = RunConfigText::parse("seed = 1").unwrap();
        for argument in ["publish.model=20240601", "soft_targets.teacher = 12e4"] {
            config.add_override(argument.into()).unwrap();
        }
        assert_eq!(
            config.overrides(),
            ["publish.model=20240601", "soft_targets.teacher = 12e4"]
        );
        for (argument, problem) in [
            (OsString::from("seed"), "--set seed: no `=`"),
            (
                OsString::from_vec(b"a=\xa3".to_vec()),
                "--set \"a=\\xA3\": is not UTF-8",
            ),
        ] {
            let error = config.add_override(argument).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(RunConfigText::parse("a = ").unwrap_err().contains("line 1"));
    }
}
