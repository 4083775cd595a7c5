//! A run's configuration on its way to the trainer: a TOML text with single values laid over it.

use std::path::Path;

use toml::{Table, Value};

use crate::CliError;

/// TOML that is sent to a trainer, which checks it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunConfigText {
    table: Table,
}

impl RunConfigText {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
        Self::parse(&text).map_err(|problem| {
            CliError::Usage(format!("{} is not TOML: {problem}", path.display()))
        })
    }

    /// Reads a text; an error says where it is not TOML.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table = text.parse::<Table>();
        let table = table.map_err(|error| error.to_string().trim_end().to_owned())?;
        Ok(Self { table })
    }

    /// Sets what `--set` gives, `key.path=value`: the value is TOML where it is TOML, else a text.
    pub(crate) fn set_argument(&mut self, argument: &str) -> Result<(), CliError> {
        let wrong = |problem: &str| {
            CliError::Usage(format!("--set {argument}: {problem}; give key.path=value"))
        };
        let (key, text) = argument.split_once('=').ok_or_else(|| wrong("no `=`"))?;
        let parsed = format!("value = {text}").parse::<Table>().ok();
        let value = parsed
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(text.trim().to_owned()));
        self.set(key.trim(), value)
            .map_err(|problem| wrong(&problem))
    }

    /// Sets the value at a dotted path; tables on the way are made where they are missing.
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

    /// The text to send.
    pub(crate) fn to_toml(&self) -> String {
        self.table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_laid_over_the_text() {
        let mut config =
            RunConfigText::parse("seed = 1\n[data]\npath = 'a'\n[[phases]]\n").unwrap();
        for argument in [
            "seed=2",
            "data.path=b c",
            "teacher.endpoints=[\"h:1\", \"h:2\"]",
            "publish.model = \"m\"",
        ] {
            config.set_argument(argument).unwrap();
        }
        let again = RunConfigText::parse(&config.to_toml()).unwrap();
        assert_eq!(again, config);
        assert_eq!(config.table["seed"].as_integer(), Some(2));
        assert_eq!(config.table["data"]["path"].as_str(), Some("b c"));
        assert_eq!(
            config.table["teacher"]["endpoints"][1].as_str(),
            Some("h:2")
        );
        assert_eq!(config.table["publish"]["model"].as_str(), Some("m"));
    }

    #[test]
    fn wrong_arguments_are_told() {
        let mut config = RunConfigText::parse("seed = 1").unwrap();
        for (argument, problem) in [
            ("seed", "no `=`"),
            ("a..b=1", "empty"),
            ("=1", "empty"),
            ("seed.x=1", "`seed` is not a table"),
        ] {
            let error = config.set_argument(argument).unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains(argument),
                "{error}"
            );
        }
        assert!(RunConfigText::parse("a = ").unwrap_err().contains("line 1"));
    }
}
